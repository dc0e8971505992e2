"""The rehearsal's findings as a person would read them."""

from __future__ import annotations

from dataclasses import dataclass

from trueline.control.context import Context
from trueline.domain.blocks import Block
from trueline.monitoring import loop, rehearsal, scenes
from trueline.stats.freshness import Freshness
from trueline.stats.staleness import AgePoint
from trueline.stats.staleness import staleness as curve_of
from trueline.store import rows, tables
from trueline.store.engine import Tx

REMEMBERED = 400
"""Days that the staleness curve is drawn from."""


@dataclass(frozen=True)
class Process:
    wealth: float
    threshold: float
    shown: bool
    sentence: str


@dataclass(frozen=True)
class StalenessReport:
    sentence: str
    ages: tuple[AgePoint, ...]
    freshness: Process | None
    champion: Process | None


def freshness(tx: Tx, context: Context) -> Process | None:
    state = loop.recall(tx, context.project.name).rehearsal
    return None if state is None else _process(state.freshness, rehearsal.read(state).reason)


def staleness(tx: Tx, context: Context) -> StalenessReport:
    """Loss against model age, with its band, and what both processes say."""
    memory = loop.recall(tx, context.project.name)
    box = tables.blocks
    judged = rows.find(tx, Block, box.c.project == context.project.name, newest=True, limit=REMEMBERED)
    ages = scenes.ages(tx, context.project.name, judged)
    if memory.rehearsal is None or not ages:
        return StalenessReport("no refit was rehearsed on labelled days yet", (), None, None)
    curve = curve_of(ages)
    reason = rehearsal.read(memory.rehearsal).reason
    return StalenessReport(
        f"a model loses {curve.per_week:.1%} a week (between {curve.low:.1%} and {curve.high:.1%}); {reason}",
        curve.points,
        _process(memory.rehearsal.freshness, reason),
        _process(memory.rehearsal.champion, reason),
    )


def _process(found: Freshness, reason: str) -> Process:
    return Process(round(found.wealth, 4), found.threshold, found.shown, reason)
