"""The only writer of a state column.

A state is moved, never assigned: one UPDATE that names the states it may leave (and, for leased work, the fence token
of the holder), and the event row, in the caller's transaction. Losing a race changes nothing and raises `Conflict`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Table, insert, or_, select, update

from trueline.domain.machines import E, Machine, S
from trueline.errors import Conflict, NotFound
from trueline.store import tables, writes
from trueline.store.engine import Tx

T = TypeVar("T")

EVERYWHERE = "*"
"""In place of a project: counted over the whole database, for ids that must differ between projects."""


def number(tx: Tx, project: str, noun: str) -> int:
    """The next number of a noun in a project, counted without gaps inside the caller's transaction."""
    return writes.increase(tx, tables.counters, {"project": project, "noun": noun}, "last")


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
    released = {name: None for name in ("owner", "leased_until") if fence is not None and name in table.c}
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
    dead: Collection[str] = (),
    actor: str | None = None,
) -> tuple[str, int] | None:
    """Lease the oldest row that waits, or whose holder is gone; its id and fence token, or None.

    The fence token grows with every claim, so a holder that was only slow finds its later writes refused. `actor` is
    the owner's name in the log.
    """
    row = claimable(tx, table, project=project, waiting=waiting, busy=busy, lease=lease, dead=dead)
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
    reason = "taken up" if row.state == waiting else "taken over: its holder is gone or silent"
    tx.record(f"{machine.noun}.{event}", row.id, project=row.project, actor=actor or owner, reason=reason)
    return row.id, row.fence + 1


def claimable(
    tx: Tx, table: Table, *, project: str, waiting: S, busy: S, lease: timedelta, dead: Collection[str] = ()
) -> Any:
    """The row that a claim would take: the oldest that waits, whose lease ran out, or whose owner is known to be dead.

    Leases run on the time of `Tx.wall`. One further off than a lease lasts was written by a clock that ran ahead, and
    says nothing: waiting for it could take as long as the clock was wrong.
    """
    ahead = tx.wall + lease
    paused = (table.c.not_before > tx.wall) & (table.c.not_before <= ahead)
    free = (table.c.state == waiting) & or_(table.c.not_before.is_(None), ~paused)
    late = or_(table.c.leased_until < tx.wall, table.c.leased_until > ahead, table.c.owner.in_(dead))
    order = table.c.number if "number" in table.c else table.c.day
    return tx.execute(
        select(table.c.id, table.c.state, table.c.fence, table.c.project, table.c.attempts, table.c.owner)
        .where(table.c.project == project, or_(free, (table.c.state == busy) & late))
        .order_by(order)
        .limit(1)
    ).first()


def owners(tx: Tx, table: Table, project: str, busy: StrEnum) -> list[str]:
    """Who works on rows of a project now."""
    held = (table.c.project == project) & (table.c.state == busy) & table.c.owner.is_not(None)
    return [str(row.owner) for row in tx.execute(select(table.c.owner).where(held).distinct())]


def take(
    tx: Tx,
    table: Table,
    machine: Machine[S, E],
    event: E,
    row_id: str,
    *,
    owner: str,
    reason: str,
    **values: Any,
) -> int:
    """Begin work on one row, for who holds what the row belongs to; its new fence token, which voids earlier holders'."""
    move(tx, table, machine, row_id, event, actor=owner, reason=reason, owner=owner, **values)
    fence: int = tx.execute(select(table.c.fence).where(table.c.id == row_id)).scalar_one() + 1
    tx.execute(update(table).where(table.c.id == row_id).values(fence=fence))
    return fence


def renew(tx: Tx, table: Table, row_id: str, fence: int, lease: timedelta) -> bool:
    """Extend a lease; False when it was lost."""
    guard = (table.c.id == row_id) & (table.c.fence == fence) & table.c.owner.is_not(None)
    return bool(tx.execute(update(table).where(guard).values(leased_until=tx.wall + lease)).rowcount == 1)
