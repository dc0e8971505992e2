"""Effects outside the database: written as intents in the transaction that wants them, done later, idempotently."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, or_, select, update

from trueline.store import tables, writes
from trueline.store.engine import Tx

LONGEST_WAIT = timedelta(seconds=30)


@dataclass(frozen=True)
class Intent:
    id: int
    key: str
    kind: str
    payload: dict[str, Any]
    attempts: int


def put(tx: Tx, project: str, kind: str, key: str, payload: dict[str, Any]) -> None:
    """Intend an effect. A key that was used already is the same intent: nothing is added."""
    values = {"project": project, "kind": kind, "key": key, "payload": payload, "done": False}
    writes.add(tx, tables.outbox, values)


def pending(tx: Tx, project: str, kinds: tuple[str, ...], *, limit: int = 100) -> list[Intent]:
    """Intents that are due, oldest first; one that waits longer than any does was put off by a clock that ran ahead."""
    box = tables.outbox
    ahead = box.c.not_before > tx.wall + LONGEST_WAIT
    due = or_(box.c.not_before.is_(None), box.c.not_before <= tx.wall, ahead)
    rows = tx.execute(
        select(box.c.id, box.c.key, box.c.kind, box.c.payload, box.c.attempts)
        .where(box.c.done.is_(False), box.c.project == project, box.c.kind.in_(kinds), due)
        .order_by(box.c.id)
        .limit(limit)
    )
    return [Intent(*row) for row in rows]


def count_open(tx: Tx, project: str, kinds: tuple[str, ...]) -> int:
    box = tables.outbox
    waiting = (box.c.done.is_(False), box.c.project == project, box.c.kind.in_(kinds))
    return int(tx.execute(select(func.count()).select_from(box).where(*waiting)).scalar_one())


def backlog(tx: Tx, project: str, kind: str, *, limit: int = 500) -> list[tuple[Intent, bool]]:
    """The intents that are not done, oldest first, and whether each is due: for who keeps an order among them."""
    box = tables.outbox
    due = {intent.id for intent in pending(tx, project, (kind,), limit=limit)}
    rows = tx.execute(
        select(box.c.id, box.c.key, box.c.kind, box.c.payload, box.c.attempts)
        .where(box.c.done.is_(False), box.c.project == project, box.c.kind == kind)
        .order_by(box.c.id)
        .limit(limit)
    )
    return [(Intent(*row), row.id in due) for row in rows]


def superseded(tx: Tx, intent: Intent, name: str) -> bool:
    """Whether a later intent of the same kind and project, done or not, says the same `name` of its payload anew."""
    box = tables.outbox
    project = select(box.c.project).where(box.c.id == intent.id).scalar_subquery()
    later = select(box.c.payload).where(box.c.project == project, box.c.kind == intent.kind, box.c.id > intent.id)
    return any(row.payload.get(name) == intent.payload[name] for row in tx.execute(later))


def last_error(tx: Tx, project: str, kinds: tuple[str, ...]) -> str | None:
    """Why the oldest open intent that was tried is still open."""
    box = tables.outbox
    waiting = (box.c.done.is_(False), box.c.project == project, box.c.kind.in_(kinds), box.c.error.is_not(None))
    found = tx.execute(select(box.c.error).where(*waiting).order_by(box.c.id).limit(1)).scalar()
    return None if found is None else str(found)


def newest_error(tx: Tx, project: str, kind: str) -> str | None:
    """Why the newest intent, whose effect takes in that of those before it, is still open, where it was tried."""
    box = tables.outbox
    of_kind = (box.c.project == project, box.c.kind == kind)
    found = tx.execute(select(box.c.error).where(*of_kind).order_by(box.c.id.desc()).limit(1)).scalar()
    return None if found is None else str(found)


def wait_after(attempts: int) -> timedelta:
    """How long an intent waits after so many failures: twice as long each time, up to half a minute."""
    return min(timedelta(seconds=0.1 * 2 ** min(attempts, 16)), LONGEST_WAIT)


def done(tx: Tx, intent: Intent) -> None:
    tx.execute(update(tables.outbox).where(tables.outbox.c.id == intent.id).values(done=True, error=None))


def failed(tx: Tx, intent: Intent, error: str) -> None:
    """Keep the intent for a later try."""
    tx.execute(
        update(tables.outbox)
        .where(tables.outbox.c.id == intent.id)
        .values(attempts=intent.attempts + 1, error=error, not_before=tx.wall + wait_after(intent.attempts))
    )
