"""The performance monitor: pages when the live model is worse than promised, at a stated rate of false alarms.

The promise is "block loss at most the reference's upper bound plus the declared loss"; the reference is itself an
estimate, so its uncertainty is in the bound. An e-detector over day blocks opens an incident when its wealth
passes N, which happens once in N blocks or less while the promise holds. A mirrored detector, started at the opening,
closes it. One incident at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean

from trueline.domain.figures import figure
from trueline.monitoring.earlier import EarlierReading
from trueline.monitoring.rehearsal import RehearsalReading
from trueline.stats.blocks import block_value, mean_upper_bound
from trueline.stats.detector import Detector, Kind


class Change(StrEnum):
    none = "none"
    opens = "open"
    closes = "close"


class Advice(StrEnum):
    retrain = "retrain"
    upstream_fault = "upstream_fault"
    re_promote = "re_promote"
    wait = "wait"


@dataclass(frozen=True)
class MonitorPolicy:
    loss: float = 0.10  # smallest loss worth a page, relative to the reference
    blocks_per_false_alarm: float = 730.0  # one in twice the declared time: the slices have the other half
    bound: float = 0.5  # block values are clipped at this share of the reference
    recovered: float = 20.0  # 1/α of closing


@dataclass(frozen=True)
class Reference:
    """The loss a version was promised with: its mean over blocks, and the upper bound of that mean."""

    mean: float
    upper: float
    blocks: int


@dataclass(frozen=True)
class MonitorState:
    opening: Detector = field(default_factory=Detector)
    closing: Detector | None = None  # there is one while an incident is open
    version: int | None = None  # the live one, in the last block


@dataclass(frozen=True)
class MonitorDecision:
    verdict: Change
    reason: str
    state: MonitorState


def reference(block_losses: Sequence[float], *, confidence: float = 0.95) -> Reference:
    """From the mean losses of held-out or first live blocks; the bound is Student's, blocks being the observations.

    >>> reference([10.0, 11.0, 9.0, 10.0]).upper > 10.5
    True
    """
    blocks = len(block_losses)
    mean = fmean(block_losses)
    if blocks < 2:
        return Reference(mean, mean * 1.5, blocks)  # one day says little; never page on it alone
    return Reference(mean, mean_upper_bound(block_losses, confidence=confidence), blocks)


def observe(
    state: MonitorState, version: int, loss: float, promised: Reference, policy: MonitorPolicy
) -> MonitorDecision:
    """One more labelled block of the live version, with the reference it was promised with.

    The promise is about what users get, whichever version gives it: evidence goes on over promotions (or a row of
    hasty successors, each worse than promised, would never page), and a successor's good blocks take it back. An open
    incident stays until the promise is shown to be kept again.
    """
    limit = promised.upper * (1 + policy.loss)
    value = block_value(loss - promised.upper, reference=promised.upper, margin=policy.loss, bound=policy.bound)
    numbers = f"mean loss {figure(loss)} in the last block; up to {figure(limit)} was promised (reference {figure(promised.mean)})"
    if state.closing is not None:
        return _while_open(state.closing.update(-value), version, numbers, policy)
    opening = state.opening.update(value)
    if not opening.alarms(policy.blocks_per_false_alarm):
        return MonitorDecision(Change.none, f"nothing to page for: {numbers}", MonitorState(opening, version=version))
    reason = (
        f"the live model is worse than promised by more than {policy.loss:.0%}: {numbers}; the evidence of "
        f"{opening.n} blocks is past what one false alarm in {policy.blocks_per_false_alarm:.0f} blocks allows"
    )
    return MonitorDecision(Change.opens, reason, MonitorState(closing=Detector(Kind.best_start), version=version))


def _while_open(closing: Detector, version: int, numbers: str, policy: MonitorPolicy) -> MonitorDecision:
    if closing.alarms(policy.recovered):
        reason = f"the live model keeps its promise again: {numbers}; shown over {closing.n} blocks"
        return MonitorDecision(Change.closes, reason, MonitorState(version=version))
    return MonitorDecision(
        Change.none, f"the incident stays open: {numbers}", MonitorState(closing=closing, version=version)
    )


def advise(fault: str | None, earlier: EarlierReading | None, rehearsed: RehearsalReading | None) -> tuple[Advice, str]:
    """What to do about a loss: mend the input, go back to an earlier champion, retrain, or wait.

    A broken input comes first: whatever is trained or promoted meanwhile learns from it. An earlier champion is shown
    only if it beats the freshest refit too, so going back comes before retraining.
    """
    if fault is not None:
        return Advice.upstream_fault, fault
    if earlier is not None and earlier.version is not None and not earlier.serves:
        return Advice.re_promote, f"an earlier champion is better: {earlier.reason}"
    if rehearsed is None:
        return Advice.wait, "no refit was rehearsed yet"
    if rehearsed.pays or rehearsed.champion_stale:
        return Advice.retrain, f"retraining helps: {rehearsed.reason}"
    return Advice.wait, f"retraining is not shown to help, no earlier champion either: {rehearsed.reason}"
