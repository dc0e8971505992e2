"""Leases of roles that one process at a time has: taken, kept by counting on, let go. Times play no part in them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, update

from trueline.store import tables, writes
from trueline.store.engine import Tx


@dataclass(frozen=True)
class Lease:
    owner: str | None
    fence: int
    beat: int


def look(tx: Tx, name: str) -> Lease | None:
    box = tables.leases
    row = tx.execute(select(box.c.owner, box.c.fence, box.c.beat).where(box.c.name == name)).first()
    return None if row is None else Lease(*row)


def take(tx: Tx, name: str, owner: str, seen: Lease | None) -> int | None:
    """Become the owner, provided that all is as it was seen; the fence token, None when somebody was there first."""
    if seen is None:
        first = {"name": name, "owner": owner, "fence": 1, "beat": 0}
        return 1 if writes.add(tx, tables.leases, first) else None
    box = tables.leases
    same = (box.c.name == name) & (box.c.fence == seen.fence) & (box.c.beat == seen.beat)
    changed = tx.execute(update(box).where(same).values(owner=owner, fence=seen.fence + 1, beat=seen.beat + 1))
    return seen.fence + 1 if changed.rowcount == 1 else None


def beat(tx: Tx, name: str, fence: int) -> bool:
    """Show that the owner lives; False when it is the owner no more."""
    box = tables.leases
    mine = (box.c.name == name) & (box.c.fence == fence)
    return bool(tx.execute(update(box).where(mine).values(beat=box.c.beat + 1)).rowcount == 1)


def let_go(tx: Tx, name: str, fence: int) -> None:
    """Leave the role to whoever asks next."""
    box = tables.leases
    mine = (box.c.name == name) & (box.c.fence == fence)
    tx.execute(update(box).where(mine).values(owner=None, beat=box.c.beat + 1))
