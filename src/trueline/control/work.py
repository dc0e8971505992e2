"""Work that one worker at a time does: taking it up, keeping it while it is done, putting it back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic

from sqlalchemy import Table

from trueline.control.context import Context
from trueline.domain.machines import E, Machine, S
from trueline.errors import Conflict, Unavailable
from trueline.store import holders, moves

LEASE = timedelta(seconds=30)
RENEW_SECONDS = 10.0


@dataclass(frozen=True)
class Kind(Generic[S, E]):
    """Rows that are worked on, and the moves that take one up and put it back."""

    table: Table
    machine: Machine[S, E]
    claim: E
    requeue: E
    waiting: S
    busy: S
    retry: timedelta


@dataclass(frozen=True)
class Claimed:
    id: str
    fence: int


def claim(context: Context, kind: Kind[S, E]) -> Claimed | None:
    """Take up the oldest row that waits, or whose worker is gone. Asked without a write while there is none."""
    project = context.project.name
    with context.store.read() as tx:
        owners = moves.owners(tx, kind.table, project, kind.busy)
        dead = tuple(owner for owner in owners if holders.gone(owner))
        which: dict[str, Any] = {
            "project": project,
            "waiting": kind.waiting,
            "busy": kind.busy,
            "lease": LEASE,
            "dead": dead,
        }
        if moves.claimable(tx, kind.table, **which) is None:
            return None
    with context.store.begin() as tx:
        found = moves.claim(
            tx, kind.table, kind.machine, kind.claim, owner=context.holder, actor=context.actor, **which
        )
    return None if found is None else Claimed(*found)


def requeue(context: Context, kind: Kind[S, E], claimed: Claimed, problem: str, *, orderly: bool = True) -> None:
    """Put it back for later: something it needs is away.

    An orderly refusal is no sign of work that never ends, and is not counted as an attempt.

    Raises:
        Conflict: somebody took it over; theirs counts.
    """
    with context.store.begin() as tx:
        moves.move(
            tx,
            kind.table,
            kind.machine,
            claimed.id,
            kind.requeue,
            actor=context.actor,
            reason=f"not possible now, tried again later: {problem}",
            fence=claimed.fence,
            not_before=tx.wall + kind.retry,
            attempts=kind.table.c.attempts - int(orderly),
        )


@contextmanager
def renewed(
    context: Context, kind: Kind[S, E], claimed: Claimed, lost: Callable[[], None] | None = None
) -> Iterator[None]:
    """Keep the lease while the work goes on; `lost` ends work that somebody took over."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_SECONDS):
            try:
                with context.store.begin() as tx:
                    kept = moves.renew(tx, kind.table, claimed.id, claimed.fence, LEASE)
            except (Unavailable, Conflict):
                continue  # the next renewal is in time too; a lost lease is found at the end
            if not kept and not done.is_set():
                if lost is not None:
                    lost()
                return

    thread = threading.Thread(target=renew, name=f"lease of {claimed.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
