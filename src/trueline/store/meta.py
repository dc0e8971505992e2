"""Small facts that outlive a process and are nobody's state: a key, a text."""

from __future__ import annotations

from sqlalchemy import insert, select, update

from trueline.store import tables
from trueline.store.engine import Tx


def get(tx: Tx, key: str) -> str | None:
    found = tx.execute(select(tables.meta.c.value).where(tables.meta.c.key == key)).scalar()
    return None if found is None else str(found)


def put(tx: Tx, key: str, value: str) -> None:
    box = tables.meta
    if tx.execute(update(box).where(box.c.key == key).values(value=value)).rowcount == 0:
        tx.execute(insert(box), {"key": key, "value": value})
