"""The log, read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select

from trueline.domain.events import Event
from trueline.store import rows, tables
from trueline.store.engine import Tx


def after(tx: Tx, project: str, event_id: int, *, limit: int = 500, kind: str | None = None) -> list[Event]:
    """Events later than that id, oldest first; `kind` is a prefix such as `release` or `release.promote`."""
    box = tables.events
    where = [box.c.project == project, box.c.id > event_id]
    if kind:
        where.append((box.c.kind == kind) | box.c.kind.startswith(kind + ".", autoescape=True))
    return rows.find(tx, Event, *where, limit=limit)


def about(tx: Tx, project: str, ref: str) -> list[Event]:
    """Everything that happened to one thing."""
    return rows.find(tx, Event, tables.events.c.project == project, tables.events.c.ref == ref)


def newest(
    tx: Tx,
    project: str,
    *,
    before: int | None,
    limit: int,
    kinds: Sequence[str] | None = None,
    ref: str | None = None,
    since: datetime | None = None,
) -> list[Event]:
    """The log backwards, from the event before that one: never more than `limit` rows are read."""
    box = tables.events
    where = [box.c.project == project]
    if before is not None:
        where.append(box.c.id < before)
    if kinds is not None:
        where.append(box.c.kind.in_(kinds))
    if ref is not None:
        where.append(box.c.ref == ref)
    if since is not None:
        where.append(box.c.at >= since)
    return rows.find(tx, Event, *where, newest=True, limit=limit)


def last_id(tx: Tx) -> int:
    return int(tx.execute(select(func.max(tables.events.c.id))).scalar() or 0)
