"""Effects outside the database: written as intents in the transaction that wants them, done later, idempotently."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, insert, or_, select, update

from trueline.store import tables
from trueline.store.engine import Tx

LONGEST_WAIT = timedelta(seconds=30)


@dataclass(frozen=True)
class Intent:
    id: int
    key: str
    kind: str
    payload: dict[str, Any]
    attempts: int


def put(tx: Tx, kind: str, key: str, payload: dict[str, Any]) -> None:
    """Intend an effect. A key that was used already is the same intent: nothing is added."""
    known = tx.execute(select(tables.outbox.c.id).where(tables.outbox.c.key == key)).first()
    if known is None:
        tx.execute(insert(tables.outbox), {"kind": kind, "key": key, "payload": payload, "done": False})


def pending(tx: Tx, kinds: tuple[str, ...], *, limit: int = 100) -> list[Intent]:
    """Intents that are due, oldest first."""
    box = tables.outbox
    due = or_(box.c.not_before.is_(None), box.c.not_before <= tx.wall)
    rows = tx.execute(
        select(box.c.id, box.c.key, box.c.kind, box.c.payload, box.c.attempts)
        .where(box.c.done.is_(False), box.c.kind.in_(kinds), due)
        .order_by(box.c.id)
        .limit(limit)
    )
    return [Intent(*row) for row in rows]


def count_open(tx: Tx, kinds: tuple[str, ...]) -> int:
    box = tables.outbox
    return int(
        tx.execute(
            select(func.count()).select_from(box).where(box.c.done.is_(False), box.c.kind.in_(kinds))
        ).scalar_one()
    )


def done(tx: Tx, intent: Intent) -> None:
    tx.execute(update(tables.outbox).where(tables.outbox.c.id == intent.id).values(done=True, error=None))


def failed(tx: Tx, intent: Intent, error: str) -> None:
    """Keep the intent for a later try; waits double up to half a minute."""
    wait = min(timedelta(seconds=0.1 * 2**intent.attempts), LONGEST_WAIT) if intent.attempts < 16 else LONGEST_WAIT
    tx.execute(
        update(tables.outbox)
        .where(tables.outbox.c.id == intent.id)
        .values(attempts=intent.attempts + 1, error=error, not_before=tx.wall + wait)
    )
