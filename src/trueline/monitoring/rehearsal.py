"""The rehearsal: would retraining help? Asked of every labelled block, before anyone needs the answer.

Cheap refits score in shadow. *Freshness*, about the policy, compares the freshest refit with one a few refits older and is
never reset; while it pays, each new refit goes straight to gate and release. *Champion*, about the serving model,
compares it with the freshest refit and starts anew at each promotion: it catches a champion that has gone bad although
freshness as such does not pay. Every model in a block was there before the block began, and so was the scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from trueline.domain.figures import odds
from trueline.stats.blocks import block_value
from trueline.stats.freshness import Freshness

MEMORY = 28
"""Blocks that the reference loss remembers, about."""


@dataclass(frozen=True)
class RehearsalPolicy:
    margin: float = 0.01  # relative; a gain below it is not worth a release
    bound: float = 0.5
    alpha: float = 0.05
    lag: int = 3  # the older refit is this many refits before the freshest


@dataclass(frozen=True)
class Refit:
    version: int
    trained_to: datetime
    ready_at: datetime  # it scored from then on


@dataclass(frozen=True)
class PairedLoss:
    """Mean losses of two versions on the rows of a block that both scored and that are labelled."""

    left: int
    right: int
    rows: int
    left_loss: float
    right_loss: float


@dataclass(frozen=True)
class RehearsalBlock:
    day: str
    began: datetime
    champion: int  # serving when the block began
    refits: tuple[Refit, ...]  # in any order; the champion may be among them
    pairs: tuple[PairedLoss, ...]


@dataclass(frozen=True)
class RehearsalState:
    freshness: Freshness
    champion: Freshness
    champion_version: int | None = None
    scale: float = 0.0  # the freshest refit's usual loss, from earlier blocks
    blocks: int = 0

    @classmethod
    def begin(cls, policy: RehearsalPolicy) -> RehearsalState:
        return cls(Freshness(policy.alpha), Freshness(policy.alpha))


@dataclass(frozen=True)
class RehearsalReading:
    pays: bool  # fresher models are shown to be better, as a policy
    champion_stale: bool  # this champion is shown to be worse than the freshest refit
    freshness: float
    champion: float
    threshold: float
    reason: str


def update(state: RehearsalState, block: RehearsalBlock, policy: RehearsalPolicy) -> RehearsalState:
    """One more block. The first one only sets the scale; a pair that was not scored is no evidence."""
    if state.champion_version != block.champion:
        state = replace(state, champion=Freshness(policy.alpha), champion_version=block.champion)
    ready = sorted((r for r in block.refits if r.ready_at <= block.began), key=lambda r: (r.trained_to, r.version))
    if not ready:
        return state
    freshest = ready[-1].version
    older = _older(ready, block.champion, policy)
    freshness, champion = state.freshness, state.champion
    if state.scale > 0:
        freshness = _bet(freshness, _pair(block, older, freshest), state.scale, policy)
        champion = _bet(champion, _pair(block, block.champion, freshest), state.scale, policy)
    loss = next((pair.right_loss for a in (older, block.champion) if (pair := _pair(block, a, freshest))), None)
    if loss is None:
        return replace(state, freshness=freshness, champion=champion)
    blocks = state.blocks + 1
    scale = state.scale + (loss - state.scale) / min(blocks, MEMORY)
    return replace(state, freshness=freshness, champion=champion, scale=scale, blocks=blocks)


def read(state: RehearsalState) -> RehearsalReading:
    """What the processes say now, in one sentence."""
    fresh, own = state.freshness, state.champion
    said = "fresher models are shown to be better" if fresh.shown else "fresher models are not shown to be better"
    also = "the champion is shown to be stale" if own.shown else "the champion is not shown to be stale"
    reason = (
        f"{said} (wealth {odds(fresh.wealth)} after {fresh.n} blocks, {fresh.threshold:.0f} needed); "
        f"{also} (wealth {odds(own.wealth)} after {own.n} blocks)"
    )
    return RehearsalReading(fresh.shown, own.shown, fresh.wealth, own.wealth, fresh.threshold, reason)


def compared(block: RehearsalBlock, policy: RehearsalPolicy) -> tuple[int, int] | None:
    """The versions freshness compares in this block, older first; None while there is no refit."""
    ready = sorted((r for r in block.refits if r.ready_at <= block.began), key=lambda r: (r.trained_to, r.version))
    return (_older(ready, block.champion, policy), ready[-1].version) if ready else None


def _older(ready: list[Refit], champion: int, policy: RehearsalPolicy) -> int:
    if len(ready) > policy.lag:
        return ready[-1 - policy.lag].version
    return ready[0].version if len(ready) > 1 else champion


def _pair(block: RehearsalBlock, older: int, freshest: int) -> PairedLoss | None:
    """The pair, turned so that the freshest is on the right; None for a model beside itself or without rows."""
    for pair in block.pairs:
        if pair.rows and older != freshest:
            if (pair.left, pair.right) == (older, freshest):
                return pair
            if (pair.right, pair.left) == (older, freshest):
                return PairedLoss(older, freshest, pair.rows, pair.right_loss, pair.left_loss)
    return None


def _bet(process: Freshness, pair: PairedLoss | None, scale: float, policy: RehearsalPolicy) -> Freshness:
    if pair is None:
        return process
    difference = pair.left_loss - pair.right_loss
    return process.update(block_value(difference, reference=scale, margin=policy.margin, bound=policy.bound))
