"""The only writer of a state column.

A state is moved, never assigned: one UPDATE that names the states it may leave (and, for leased work, the fence token
of the holder), and the event row, in the caller's transaction. Losing a race changes nothing and raises `Conflict`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Table, insert, or_, select, update

from trueline.domain.machines import E, Machine, S
from trueline.errors import Conflict, NotFound
from trueline.store import tables
from trueline.store.engine import Tx

T = TypeVar("T")

EVERYWHERE = "*"
"""In place of a project: counted over the whole database, for ids that must differ between projects."""


def number(tx: Tx, project: str, noun: str) -> int:
    """The next number of a noun in a project, counted without gaps inside the caller's transaction."""
    counters = tables.counters
    mine = (counters.c.project == project) & (counters.c.noun == noun)
    changed = tx.execute(update(counters).where(mine).values(last=counters.c.last + 1))
    if changed.rowcount == 0:
        tx.execute(insert(counters), {"project": project, "noun": noun, "last": 1})
        return 1
    return int(tx.execute(select(counters.c.last).where(mine)).scalar_one())


def create(
    tx: Tx,
    table: Table,
    machine: Machine[S, E],
    values: dict[str, Any],
    *,
    actor: str,
    reason: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Insert a row in its machine's initial state, with its event."""
    tx.execute(insert(table), {**values, "state": machine.initial})
    tx.record(
        f"{machine.noun}.create", values["id"], project=values["project"], actor=actor, reason=reason, detail=detail
    )


def move(
    tx: Tx,
    table: Table,
    machine: Machine[S, E],
    row_id: str,
    event: E,
    *,
    actor: str,
    reason: str,
    fence: int | None = None,
    detail: dict[str, Any] | None = None,
    **values: Any,
) -> S:
    """Take one transition, guarded; returns the new state.

    Raises:
        NotFound: no such row.
        Conflict: the state does not allow it, somebody else moved it first, or the lease was lost.
    """
    row = tx.execute(select(table.c.state, table.c.project).where(table.c.id == row_id)).first()
    if row is None:
        raise NotFound(f"there is no {machine.noun} {row_id}")
    state, project = row
    following = machine.next(state, event, which=row_id)
    guard = (table.c.id == row_id) & (table.c.state == state)
    if fence is not None:
        guard &= table.c.fence == fence
    released = {"owner": None, "leased_until": None} if fence is not None else {}
    changed = tx.execute(update(table).where(guard).values(state=following, **released, **values))
    if changed.rowcount != 1:
        raise Conflict(f"{machine.noun} {row_id} was taken over by somebody else; this attempt changes nothing")
    tx.record(f"{machine.noun}.{event}", row_id, project=project, actor=actor, reason=reason, detail=detail)
    return following


def claim(
    tx: Tx,
    table: Table,
    machine: Machine[S, E],
    event: E,
    *,
    project: str,
    waiting: S,
    busy: S,
    owner: str,
    lease: timedelta,
) -> tuple[str, int] | None:
    """Lease the oldest row that waits, or whose holder's lease ran out; its id and fence token, or None.

    Leases run on the machine's own time. The fence token grows with every claim, so a holder that was only slow finds
    its later writes refused.
    """
    free = (table.c.state == waiting) & or_(table.c.not_before.is_(None), table.c.not_before <= tx.wall)
    orphaned = (table.c.state == busy) & (table.c.leased_until < tx.wall)
    order = table.c.number if "number" in table.c else table.c.day
    row = tx.execute(
        select(table.c.id, table.c.state, table.c.fence, table.c.project, table.c.attempts)
        .where(table.c.project == project, or_(free, orphaned))
        .order_by(order)
        .limit(1)
    ).first()
    if row is None:
        return None
    taken = tx.execute(
        update(table)
        .where(table.c.id == row.id, table.c.state == row.state, table.c.fence == row.fence)
        .values(
            state=machine.next(row.state, event, which=row.id),
            owner=owner,
            leased_until=tx.wall + lease,
            fence=row.fence + 1,
            attempts=row.attempts + 1,
        )
    )
    if taken.rowcount != 1:
        return None
    reason = "taken up" if row.state == waiting else "taken over: its holder's lease ran out"
    tx.record(f"{machine.noun}.{event}", row.id, project=row.project, actor=owner, reason=reason)
    return row.id, row.fence + 1


def renew(tx: Tx, table: Table, row_id: str, fence: int, lease: timedelta) -> bool:
    """Extend a lease; False when it was lost."""
    guard = (table.c.id == row_id) & (table.c.fence == fence) & table.c.owner.is_not(None)
    return bool(tx.execute(update(table).where(guard).values(leased_until=tx.wall + lease)).rowcount == 1)


def forfeit(tx: Tx, table: Table, owner: str) -> None:
    """End the leases of a holder that is known to be dead, so that its work need not wait for them to run out."""
    tx.execute(update(table).where(table.c.owner == owner).values(leased_until=tx.wall))
