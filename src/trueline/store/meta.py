"""Small facts that outlive a process and are nobody's state: a key, a text."""

from __future__ import annotations

from sqlalchemy import select

from trueline.store import tables, writes
from trueline.store.engine import Tx


def get(tx: Tx, key: str) -> str | None:
    found = tx.execute(select(tables.meta.c.value).where(tables.meta.c.key == key)).scalar()
    return None if found is None else str(found)


def put(tx: Tx, key: str, value: str) -> None:
    writes.put(tx, tables.meta, {"key": key, "value": value})
