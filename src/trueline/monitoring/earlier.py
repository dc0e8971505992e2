"""Would an earlier champion be better? Seasons return, and what was trained on the last one is still in its folder.

A few earlier champions, spread over the time they were trained in, are scored on every labelled day beside what serves.
One e-CUSUM each (a season's return has a beginning, so what was bad before it counts for nothing): that it is better than *both* the champion and the freshest refit on the same rows (the smaller of the two
differences counts), so re-promoting is shown to beat retraining too. The bets are about a policy ("serve this one instead of
whatever the loop serves"), so a promotion does not reset them; as e-detectors with floor and cap they change their mind
both ways. With k candidates each needs k times the wealth (Bonferroni), k being the most there may ever be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from trueline.domain.figures import odds
from trueline.monitoring.rehearsal import RehearsalBlock
from trueline.stats.blocks import block_value
from trueline.stats.freshness import Freshness

MOST = 6
"""Earlier champions that compete; each is one model more to score a day's rows with, by a worker."""

RECENT = 14
"""Blocks that the sentence's percentage is taken over."""


@dataclass(frozen=True)
class EarlierPolicy:
    margin: float = 0.01
    bound: float = 0.5
    alpha: float = 0.05
    most: int = MOST


@dataclass(frozen=True)
class Contender:
    """One earlier champion's bet, and the last blocks as (its loss, the loss of what served)."""

    process: Freshness
    recent: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class EarlierState:
    contenders: dict[str, Contender] = field(default_factory=dict)  # by version number, as text for JSON


@dataclass(frozen=True)
class EarlierReading:
    version: int | None  # shown to be better than champion and freshest refit
    wealth: float
    threshold: float
    serves: bool  # it is the champion already
    reason: str


@dataclass(frozen=True)
class Champion:
    version: int
    trained_to: datetime


def chosen(champions: Sequence[Champion], most: int = MOST) -> tuple[int, ...]:
    """Which earlier champions compete: the oldest, the newest, and between them those farthest apart in time.

    >>> from datetime import UTC
    >>> chosen([Champion(n, datetime(2026, 1, n, tzinfo=UTC)) for n in (1, 2, 3, 10, 11, 20)], most=3)
    (1, 10, 20)
    """
    kept = sorted(champions, key=lambda one: (one.trained_to, one.version))
    while len(kept) > most:
        inner = range(1, len(kept) - 1)
        kept.pop(min(inner, key=lambda at: kept[at + 1].trained_to - kept[at - 1].trained_to))
    return tuple(one.version for one in kept)


def update(
    state: EarlierState, block: RehearsalBlock, candidates: Sequence[int], scale: float, policy: EarlierPolicy
) -> EarlierState:
    """One more block; champion, refits and candidates were all there before it began."""
    contenders: dict[str, Contender] = {}
    refit = _freshest(block)
    for version in candidates:
        known = state.contenders.get(str(version)) or Contender(Freshness(policy.alpha, floor=1.0))
        rivals = [rival for rival in (block.champion, refit) if rival is not None and rival != version]
        pairs = [pair for rival in rivals if (pair := _losses(block, version, rival)) is not None]
        if pairs and scale > 0:
            least = min(theirs - own for own, theirs in pairs)
            value = block_value(least, reference=scale, margin=policy.margin, bound=policy.bound)
            known = Contender(known.process.update(value), (*known.recent, pairs[0])[-RECENT:])
        contenders[str(version)] = known
    return EarlierState(contenders)


def read(state: EarlierState, champion: int | None, policy: EarlierPolicy) -> EarlierReading:
    """The contender with the most evidence, once it has enough; the champion among them may hold its ground."""
    threshold = policy.most / policy.alpha
    ranked = sorted(state.contenders.items(), key=lambda item: (-item[1].process.wealth, int(item[0])))
    if not ranked:
        return EarlierReading(None, 0.0, threshold, serves=False, reason="no earlier champion competes yet")
    number, best = int(ranked[0][0]), ranked[0][1]
    wealth = best.process.wealth
    if wealth < threshold:
        reason = f"no earlier champion is shown to be better (wealth {odds(wealth)}, {threshold:.0f} needed of {policy.most})"
        return EarlierReading(None, wealth, threshold, serves=False, reason=reason)
    serves = number == champion
    rival = "the freshest refit" if serves else f"champion version {champion}"
    reason = (
        f"version {number} loses {_gain(best):.0%} less than {rival} over the last {len(best.recent)} blocks, and is shown "
        f"to beat the freshest refit too (wealth {wealth:.0f}, {threshold:.0f} needed, one of {policy.most} that may compete)"
    )
    return EarlierReading(number, wealth, threshold, serves, reason)


def _freshest(block: RehearsalBlock) -> int | None:
    ready = [refit for refit in block.refits if refit.ready_at <= block.began]
    return max(ready, key=lambda refit: (refit.trained_to, refit.version)).version if ready else None


def _losses(block: RehearsalBlock, version: int, rival: int) -> tuple[float, float] | None:
    """The version's loss and the rival's, on the rows that both scored."""
    for pair in block.pairs:
        if pair.rows and {pair.left, pair.right} == {version, rival}:
            own, theirs = pair.left_loss, pair.right_loss
            return (own, theirs) if pair.left == version else (theirs, own)
    return None


def _gain(contender: Contender) -> float:
    theirs = sum(rival for _, rival in contender.recent)
    return 1 - sum(own for own, _ in contender.recent) / theirs if theirs > 0 else 0.0
