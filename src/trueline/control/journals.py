"""Having the journals shipped: the barrier before anything reads the predictions and labels tables."""

from __future__ import annotations

from sqlalchemy import select

from trueline.control import endpoints
from trueline.control.context import Context
from trueline.domain.releases import ReleaseState
from trueline.sockets import ask
from trueline.store import tables

SHIP_SECONDS = 60.0
EVERYTHING = 2**62


def ship(context: Context, *, seconds: float = SHIP_SECONDS) -> None:
    """Have every journal shipped up to now; raises Unavailable while a shipper is being restarted.

    Shipped segments may then go, except those that a canary's evidence has still to be read from.
    """
    with context.store.read() as tx:
        live = endpoints.live_release(tx, context.project.name)
        box = tables.cursors
        cursors = tx.execute(select(box.c.replica, box.c.segment).where(box.c.project == context.project.name))
        read = {row.replica: row.segment for row in cursors}
    reading = live is not None and live.state is ReleaseState.canary
    for journal in sorted(context.folder.journals.iterdir()) if context.folder.journals.exists() else ():
        through = read.get(journal.name, 0) - 1 if reading else EVERYTHING
        message = {"op": "ship", "read_through": through}
        ask(context.folder.socket(f"shipper-{journal.name}"), message, timeout=seconds)
