"""The log, read."""

from __future__ import annotations

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
