"""The performance curve: what each day lost, what was promised, who served, and when that was an incident.

Of a block's evidence only three things are decoded and the rest is skipped, so that three years of days stay cheap
however much each one keeps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Text, select, type_coerce

from trueline.control import blocks, runs
from trueline.control.context import Context
from trueline.domain.blocks import BlockState
from trueline.domain.incidents import Incident
from trueline.monitoring import loop
from trueline.store import rows, tables
from trueline.store.engine import Tx

DAY = timedelta(days=1)
METRICS = {"regression": "mean absolute error", "classification": "Brier loss"}
REIGNS = 500
"""Changes of champion looked at; a curve with more bands than that would show none."""


@dataclass(frozen=True)
class Day:
    day: date
    predictions: int
    labelled: int
    loss: float | None
    champion: int | None
    versions: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Promise:
    mean: float
    upper: float
    limit: float


@dataclass(frozen=True)
class Reign:
    version: int
    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class Performance:
    metric: str
    target: str
    days: tuple[Day, ...]
    promise: Promise | None
    reigns: tuple[Reign, ...]
    incidents: tuple[Incident, ...]
    earlier: bool


def performance(tx: Tx, context: Context, *, days: int, until: date | None) -> Performance:
    """The last `days` blocks, up to `until` or the newest."""
    project = context.project.name
    found = _blocks(tx, project, days + 1, until)
    shown = found[-days:]
    begin = _midnight(shown[0].day) if shown else tx.now
    end = _midnight(shown[-1].day) + DAY if shown else tx.now
    reigns = reigns_between(tx, project, begin, None if until is None else end)
    task = _task(tx, project, reigns)
    return Performance(
        metric=METRICS.get(task, "loss"),
        target=context.project.data.target,
        days=tuple(_crowned(day, reigns) for day in shown),
        promise=_promise(tx, context),
        reigns=reigns,
        incidents=_incidents(tx, project, begin, end if until is not None else None),
        earlier=len(found) > days,
    )


def _blocks(tx: Tx, project: str, limit: int, until: date | None) -> list[Day]:
    """Oldest first; days that were labelled too sparsely to have a loss are there without one."""
    box = tables.blocks
    where = [box.c.project == project, box.c.state.in_((BlockState.evaluated, BlockState.judged))]
    if until is not None:
        where.append(box.c.day <= until.isoformat())
    statement = (
        select(box.c.day, type_coerce(box.c.evidence, Text)).where(*where).order_by(box.c.day.desc()).limit(limit)
    )
    return [_day(date.fromisoformat(day), text) for day, text in reversed(list(tx.execute(statement)))]


class _Mean(msgspec.Struct):
    n: int = 0
    loss: float | None = None


class _Evidence(msgspec.Struct):
    """What the curve needs of a block's evidence."""

    served: _Mean = msgspec.field(default_factory=_Mean)
    versions: dict[int, _Mean] = {}
    coverage: dict[str, Any] = {}


def _day(day: date, text: str | None) -> Day:
    try:
        kept = msgspec.json.decode(text or "{}", type=_Evidence)
    except msgspec.DecodeError:  # a NaN, which is no JSON to the strict
        kept = msgspec.convert(json.loads(text or "{}"), _Evidence, strict=False)
    return Day(
        day=day,
        predictions=int(kept.coverage.get("predictions", 0)),
        labelled=kept.served.n,
        loss=_finite(kept.served.loss),
        champion=None,
        versions={number: one.loss for number, one in kept.versions.items() if one.n and one.loss is not None},
    )


def _finite(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None


def reigns_between(tx: Tx, project: str, begin: datetime, end: datetime | None) -> tuple[Reign, ...]:
    """Who had the traffic: from the promotions, rollbacks and holds of that time, and the last one before it."""
    box = tables.events
    kinds = ("release.promote", "release.roll_back", "route.hold")
    where = [box.c.project == project, box.c.kind.in_(kinds)]
    if end is not None:
        where.append(box.c.at < end)
    statement = select(box.c.kind, box.c.at, box.c.detail).where(*where).order_by(box.c.id.desc()).limit(REIGNS)
    found: list[Reign] = []
    until: datetime | None = None
    for row in tx.execute(statement):
        if row.kind == "release.roll_back" and not row.detail.get("crowned"):
            continue
        version = row.detail.get("from" if row.kind == "release.roll_back" else "version")
        if version:
            found.append(Reign(int(version), row.at, until))
            until = row.at
        if row.at <= begin:
            break
    return tuple(reversed(found))


def _task(tx: Tx, project: str, reigns: Sequence[Reign]) -> str:
    return runs.version(tx, project, reigns[-1].version).task if reigns else ""


def _crowned(day: Day, reigns: Sequence[Reign]) -> Day:
    """With the champion of the day's end."""
    end = _midnight(day.day) + DAY
    champion = next((one.version for one in reversed(reigns) if one.since < end), None)
    return Day(day.day, day.predictions, day.labelled, day.loss, champion, day.versions)


def _promise(tx: Tx, context: Context) -> Promise | None:
    if not blocks.monitor_state(tx, context.project.name):
        return None
    promised = loop.recall(tx, context.project.name).promised
    if promised is None:
        return None
    return Promise(promised.mean, promised.upper, promised.upper * (1 + context.project.monitor.loss))


def _incidents(tx: Tx, project: str, begin: datetime, end: datetime | None) -> tuple[Incident, ...]:
    box = tables.incidents
    where = [box.c.project == project, box.c.closed_at.is_(None) | (box.c.closed_at >= begin)]
    if end is not None:
        where.append(box.c.opened_at < end)
    return tuple(reversed(rows.find(tx, Incident, *where, newest=True, limit=200)))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
