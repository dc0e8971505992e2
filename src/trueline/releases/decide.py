"""What a release does next, from its evidence alone: advance, promote, roll back, hold, finish, or wait.

The order of questions is the order of harm. Harm shown by any guard sends the release back at once, also after
promotion while the old version is warm. A sample ratio that cannot be chance holds it: the experiment is broken, not
the model. Then each step asks for its minimum time and for its part of the evidence that errors are within
tolerance; the last step asks for all of it and, where nothing vouches for merit, that labelled loss is within
tolerance too. Anything less waits, and says how much is missing.

α is shared by everything that can roll back (m processes: each at α/m), so the release as a whole is sent back
wrongly with probability α at most. Being within tolerance is shown either by the ratio of bad events or by the
canary's own rate below a floor; the mean of the two wealths is asked to reach 1/β. Log-wealth adds over rows, so
evidence crosses steps of different shares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from trueline.domain.releases import ReleaseState
from trueline.stats.arms import Arms
from trueline.stats.bad_events import BadEvents, Thresholds
from trueline.stats.bounded_mean import Bets
from trueline.stats.proportion import log_e_below
from trueline.stats.sample_ratio import log_bayes_factor


class Act(StrEnum):
    advance = "advance"
    promote = "promote"
    roll_back = "roll_back"
    hold = "hold"
    finish = "finish"
    wait = "wait"


@dataclass(frozen=True)
class Guard:
    """A kind of bad request and how many times the champion's rate of it is tolerated."""

    name: str  # "errors", "slow": completes "<share> of requests are ..."
    thresholds: Thresholds
    floor: float | None = 0.01  # below it rates count as equal


@dataclass(frozen=True)
class ReleasePolicy:
    shadow: timedelta | None = None  # minimum; None: no shadow stage
    canary: tuple[float, ...] = (0.1, 0.25, 0.5)
    canary_for: timedelta = timedelta(0)  # minimum for each step
    guards: tuple[Guard, ...] = (Guard("errors", Thresholds.of(2.0)),)
    loss: float = 0.05  # largest tolerated increase of labelled loss
    alpha: float = 0.01
    beta: float = 0.01
    ratio_alpha: float = 0.001
    units_per_step: int = 1  # a step that nobody has met proves nothing
    watch: timedelta = timedelta(days=7)  # after promotion


@dataclass(frozen=True)
class Stage:
    """Where a release stands; `step` counts the canary's weights from 0."""

    state: ReleaseState
    step: int
    since: datetime
    vouched: bool  # merit was shown before, by gate or freshness


@dataclass(frozen=True)
class Split:
    """How many units fell on each arm while the canary's share was this."""

    share: float
    canary: int
    champion: int


@dataclass(frozen=True)
class GuardEvidence:
    """Bad events by arm, and what the canary did by itself."""

    events: BadEvents = field(default_factory=BadEvents)
    alone: int = 0  # units the canary was asked
    alone_bad: int = 0


@dataclass(frozen=True)
class ReleaseEvidence:
    version: int
    previous: int | None
    guards: dict[str, GuardEvidence]
    splits: tuple[Split, ...] = ()
    labelled_splits: tuple[Split, ...] = ()
    arms: Arms = field(default_factory=Arms)
    harm_blocks: Bets = field(default_factory=Bets)  # day blocks of pairs: new minus old, beyond the tolerance
    within_blocks: Bets = field(default_factory=Bets)  # their negatives: within the tolerance
    units_this_step: int = 0


@dataclass(frozen=True)
class ReleaseDecision:
    verdict: Act
    reason: str
    step: int | None = None
    weight: float | None = None


def decide_release(stage: Stage, evidence: ReleaseEvidence, policy: ReleasePolicy, now: datetime) -> ReleaseDecision:
    """The next move and its sentence."""
    if evidence.previous is None and stage.state is not ReleaseState.promoted:
        reason = f"version {evidence.version} is the first: there is no champion to compare it with or to harm"
        return ReleaseDecision(Act.promote, reason)
    harm = _harm(evidence, policy)
    if harm is not None:
        return ReleaseDecision(Act.roll_back, harm)
    if stage.state is ReleaseState.promoted:
        return _watched(stage, policy, now)
    if stage.state is ReleaseState.pending:
        return _start(policy)
    mismatch = _mismatch(evidence, policy)
    if mismatch is not None:
        return ReleaseDecision(Act.hold, mismatch)
    proceed = _after_shadow if stage.state is ReleaseState.shadow else _after_canary
    return proceed(stage, evidence, policy, now)


def _harm(evidence: ReleaseEvidence, policy: ReleasePolicy) -> str | None:
    processes = len(policy.guards) + 2
    limit = math.log(processes / policy.alpha)
    for guard in policy.guards:
        found = evidence.guards.get(guard.name, GuardEvidence()).events
        if found.log_worse >= limit:
            return (
                f"{guard.name}: {found.canary} bad requests on version {evidence.version} beside {found.champion} on "
                f"version {evidence.previous} are more than {guard.thresholds.inner:.3g} times its share can explain "
                f"({_odds(found.log_worse)}, {processes / policy.alpha:.0f} needed; "
                f"{guard.thresholds.tolerance:.3g} times is the tolerance)"
            )
    arms = evidence.arms
    if arms.log_harm >= limit:
        return (
            f"labelled loss of version {evidence.version} is {_relative(arms):+.0%} beside version {evidence.previous} "
            f"({arms.canary} and {arms.champion} randomised rows; {_odds(arms.log_harm)}, {policy.loss:.0%} tolerated)"
        )
    if evidence.harm_blocks.log_wealth >= limit:
        return (
            f"on the same rows version {evidence.version} loses more than {policy.loss:.0%} beside version "
            f"{evidence.previous} in {evidence.harm_blocks.n} days ({_odds(evidence.harm_blocks.log_wealth)})"
        )
    return None


def _mismatch(evidence: ReleaseEvidence, policy: ReleasePolicy) -> str | None:
    for what, splits in (("units", evidence.splits), ("labelled rows", evidence.labelled_splits)):
        random = [split for split in splits if 0 < split.share < 1]
        log_factor = sum(log_bayes_factor((s.canary, s.champion), (s.share, 1 - s.share)) for s in random)
        if log_factor >= math.log(2 / policy.ratio_alpha):
            seen, meant = sum(s.canary for s in random), sum(s.share * (s.canary + s.champion) for s in random)
            return (
                f"the split is not what was asked for: {seen} {what} fell on version {evidence.version}, about "
                f"{meant:.0f} should have ({_odds(log_factor)}); its figures mean nothing until that is explained"
            )
    return None


def _watched(stage: Stage, policy: ReleasePolicy, now: datetime) -> ReleaseDecision:
    left = stage.since + policy.watch - now
    if left <= timedelta(0):
        return ReleaseDecision(Act.finish, f"no harm was shown in the {_span(policy.watch)} since it was promoted")
    return ReleaseDecision(Act.wait, f"promoted and watched for {_span(left)} more; no harm is shown so far")


def _start(policy: ReleasePolicy) -> ReleaseDecision:
    if policy.shadow is not None:
        return ReleaseDecision(Act.advance, f"scoring in shadow for at least {_span(policy.shadow)}", weight=0.0)
    return _canary_step(0, policy, "no shadow stage is declared")


def _after_shadow(stage: Stage, evidence: ReleaseEvidence, policy: ReleasePolicy, now: datetime) -> ReleaseDecision:
    left = stage.since + (policy.shadow or timedelta(0)) - now
    if left > timedelta(0):
        return ReleaseDecision(Act.wait, f"in shadow for {_span(left)} more")
    if not policy.canary and not stage.vouched and (missing := _loss_not_shown(evidence, policy)):
        return ReleaseDecision(Act.wait, f"not enough evidence yet: {missing}")
    blocks = evidence.harm_blocks.n
    seen = f"{blocks} days of pairs show no harm" if blocks else "no day of labelled pairs is complete yet"
    return _canary_step(0, policy, f"its time in shadow is over and {seen}")


def _canary_step(step: int, policy: ReleasePolicy, why: str) -> ReleaseDecision:
    if step >= len(policy.canary):
        return ReleaseDecision(Act.promote, f"all traffic: {why}")
    weight = policy.canary[step]
    return ReleaseDecision(Act.advance, f"{weight:.0%} of the traffic: {why}", step=step, weight=weight)


def _after_canary(stage: Stage, evidence: ReleaseEvidence, policy: ReleasePolicy, now: datetime) -> ReleaseDecision:
    left = stage.since + policy.canary_for - now
    if left > timedelta(0):
        return ReleaseDecision(Act.wait, f"this step lasts {_span(left)} more at least")
    if evidence.units_this_step < policy.units_per_step:
        have = f"{evidence.units_this_step} of {policy.units_per_step} requests"
        return ReleaseDecision(Act.wait, f"the canary has answered {have} that this step needs")
    step = stage.step + 1
    part = min(step / len(policy.canary), 1.0)
    missing = [m for guard in policy.guards if (m := _not_shown(guard, evidence, policy, part))]
    last = step >= len(policy.canary)
    if last and not stage.vouched and not missing:
        missing = [m for m in (_loss_not_shown(evidence, policy),) if m]
    if missing:
        return ReleaseDecision(Act.wait, f"not enough evidence yet: {'; '.join(missing)}")
    return _canary_step(step, policy, _shown(stage, evidence, policy, part))


def log_within(guard: Guard, found: GuardEvidence) -> float:
    """Log-wealth against "at least `tolerance` times the champion's rate, and at least the floor"."""
    if guard.floor is None:
        return found.events.log_better
    alone = log_e_below(found.alone_bad, found.alone, floor=guard.floor)
    higher, lower = max(alone, found.events.log_better), min(alone, found.events.log_better)
    return higher + math.log1p(math.exp(lower - higher)) - math.log(2)


def _not_shown(guard: Guard, evidence: ReleaseEvidence, policy: ReleasePolicy, part: float) -> str | None:
    found = evidence.guards.get(guard.name, GuardEvidence())
    missing = part * math.log(1 / policy.beta) - log_within(guard, found)
    if missing <= 0:
        return None
    seen = f"{guard.name} {found.alone_bad} in {found.alone} requests that it answered or scored in shadow"
    if guard.floor is not None and found.alone_bad <= guard.floor * found.alone / 2:
        clean = math.ceil(missing / -math.log1p(-guard.floor))
        return f"{seen}; about {clean} more requests without one are needed"
    return f"{seen}; being within {guard.thresholds.tolerance:.3g} times the champion's is not shown yet"


def _loss_not_shown(evidence: ReleaseEvidence, policy: ReleasePolicy) -> str | None:
    limit = math.log(2 / policy.beta)
    have = max(evidence.arms.log_within, evidence.within_blocks.log_wealth)
    if have >= limit:
        return None
    rows = evidence.arms.canary + evidence.arms.champion
    said = f"nothing vouches for its merit, and labelled loss within {policy.loss:.0%} is not shown by {rows} rows"
    if have > limit / 20:
        total = limit / have
        return f"{said} and {evidence.within_blocks.n} days; at this rate it takes about {total:.1f} times as much"
    return f"{said} and {evidence.within_blocks.n} days; how long it will take cannot be told yet"


def _shown(stage: Stage, evidence: ReleaseEvidence, policy: ReleasePolicy, part: float) -> str:
    told = []
    for guard in policy.guards:
        found = evidence.guards.get(guard.name, GuardEvidence())
        told.append(
            f"{guard.name} {found.alone_bad} in {found.alone} ({_odds(log_within(guard, found))} for being within "
            f"tolerance, {math.exp(part * math.log(1 / policy.beta)):.0f} needed)"
        )
    if part == 1 and not stage.vouched:
        told.append(f"labelled loss shown within {policy.loss:.0%}")
    return "; ".join(told) or "no guard is declared"


def _relative(arms: Arms) -> float:
    usual = arms.champion_loss / arms.champion if arms.champion else 0.0
    if not arms.canary or usual == 0:
        return 0.0  # nothing to be relative to (a tiny sum of losses may underflow to a mean of zero)
    return arms.canary_loss / arms.canary / usual - 1


def _odds(log_wealth: float) -> str:
    return (
        f"odds {math.exp(log_wealth):,.0f} to 1" if log_wealth < 20 else f"odds 10^{log_wealth / math.log(10):.0f} to 1"
    )


def _span(time: timedelta) -> str:
    hours = time / timedelta(hours=1)
    if hours >= 48:
        return f"{hours / 24:.0f} days"
    return f"{hours:.0f} hours" if hours >= 2 else f"{max(hours * 60, 1):.0f} minutes"
