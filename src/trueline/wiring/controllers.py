"""The controllers of one control process, taken round by round until nothing is left to do.

Idle means: at this event time every run has ended, every gate is decided, every due block is judged, every route
table is acknowledged. A replay's driver waits for that before it moves time on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from trueline.control.clocks import ReplayClock
from trueline.control.context import Context
from trueline.control.leadership import Leadership
from trueline.control.rounds import Round
from trueline.domain.blocks import BlockState
from trueline.domain.gates import GateState
from trueline.domain.runs import RunState
from trueline.errors import Unavailable
from trueline.monitoring.unrecorded import Watch
from trueline.pipelines import schedule
from trueline.releases import delivery
from trueline.releases.courier import Courier
from trueline.sockets import ask, ring
from trueline.store import outbox, tables
from trueline.store.engine import Tx

log = logging.getLogger("trueline")

RECONCILE_SECONDS = 1.0
SHIP_SECONDS = 60.0
NEVER = datetime(1970, 1, 1, tzinfo=UTC)

OPEN = (
    (tables.runs, (RunState.queued, RunState.running)),
    (tables.gates, (GateState.pending, GateState.evaluating)),
    (tables.blocks, (BlockState.due, BlockState.evaluating, BlockState.evaluated)),
)


def _controllers() -> tuple[Callable[[Context], Round], ...]:
    """Imported with the first round, for NumPy and SciPy come with them: a command that only asks starts without."""
    from trueline.monitoring import loop as monitoring  # noqa: PLC0415
    from trueline.releases import loop as releases  # noqa: PLC0415

    return releases.step, monitoring.step, schedule.step


class Controllers:
    """Level-triggered: each round reads rows, decides, and commits guarded moves; killed anywhere, the next goes on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.leadership = Leadership(context.store, context.project.name)
        self._leading = replace(context, store=context.store.guarded(self.leadership.check))
        self._standing_by = False
        self._said = ""
        self._bells = context.folder.sockets
        self._courier = Courier(context)
        self.watch = Watch(context.folder)
        self._idle = threading.Condition()
        self._idle_at = NEVER
        self._commands = 0
        self._reconciled = 0.0
        self._looked = 0.0
        self._delivering = threading.Lock()
        self.next_due: datetime | None = None

    def step(self) -> bool:
        """One round over every controller, where this process leads; whether any of them did something."""
        context = self._leading
        if isinstance(context.clock, ReplayClock):
            context.clock.refresh(context.store)
        leads = self._lead()
        self._look_at_journals()  # before a controller that may stumble over one
        if not leads:
            _controllers()  # so that taking over need not wait for imports
            self._reconcile()
            self._say("another control process leads; this one stands by")
            return False
        self._say("this control process leads")
        now = context.clock.now()
        commands = self._commands
        with context.store.read() as tx:
            nothing = self.nothing_to_do(tx)  # asked before the controllers look: what comes later makes them busy
        busy = self.deliver_now()
        due = []
        for controller in _controllers():
            outcome = controller(context)
            busy |= outcome.busy
            due.append(outcome.next_due)
        busy |= self.deliver_now()
        self._reconcile()
        if not busy:
            self._settle(now, commands, [moment for moment in due if moment is not None], nothing=nothing)
        return busy

    def _say(self, sentence: str) -> None:
        """Once, when it has changed."""
        if sentence != self._said:
            self._said = sentence
            log.info("%s", sentence)

    def _lead(self) -> bool:
        leads = self.leadership.hold()
        with self._idle:
            self._standing_by = not leads
            self._idle.notify_all()
        return leads

    def disturb(self) -> None:
        """A command was committed: what was idle before it says nothing any more."""
        with self._idle:
            self._commands += 1
            self._idle_at = NEVER

    def _settle(self, now: datetime, commands: int, due: list[datetime], *, nothing: bool) -> None:
        if nothing:
            with self._idle:
                if self._commands == commands:
                    self._idle_at, self.next_due = now, min(due, default=None)
                    self._idle.notify_all()
        else:
            ring(self._bells, "worker-*")

    def deliver_now(self) -> bool:
        """Bring waiting route tables to the servers, in whichever thread asks first."""
        with self._delivering:
            context = self._context
            return delivery.deliver(context.store, context.folder, context.project.name, self._courier.bring)

    def nothing_to_do(self, tx: Tx) -> bool:
        """Whether no row of this project waits for anybody."""
        project = self._context.project.name
        for table, states in OPEN:
            statement = table.select().where(table.c.project == project, table.c.state.in_(states)).limit(1)
            if tx.execute(statement).first() is not None:
                return False
        return outbox.count_open(tx, project, ("route",)) == 0

    def wait_idle(self, now: datetime, seconds: float) -> None:
        """Return once everything that `now` calls for is done."""
        with self._idle:
            done = self._idle.wait_for(lambda: self._idle_at >= now or self._standing_by, timeout=seconds)
            if self._standing_by:
                raise Unavailable("another control process leads this project; post the time to that one")
            if not done:
                raise Unavailable(
                    f"control is still busy at {now.isoformat()} after {seconds:.0f} s; see `trueline status` and the log"
                )

    def ship(self) -> None:
        """Have every journal shipped up to now, by the shippers that run."""
        for path in sorted(self._bells.glob("shipper-*.sock")):
            try:
                ask(path, {"op": "ship"}, timeout=SHIP_SECONDS)
            except Unavailable as problem:
                if not isinstance(problem.__cause__, (ConnectionRefusedError, FileNotFoundError)):
                    raise  # else a dead process left its socket behind

    def _reconcile(self) -> None:
        if time.monotonic() - self._reconciled < RECONCILE_SECONDS:
            return
        self._reconciled = time.monotonic()
        with self._delivering:
            context = self._context
            delivery.reconcile(context.store, context.folder, context.project.name, self._courier.bring)

    def _look_at_journals(self) -> None:
        if time.monotonic() - self._looked >= RECONCILE_SECONDS:
            self._looked = time.monotonic()
            self.watch.look()
            self.watch.heed(self._context.store, self._context.project.name)

    def close(self) -> None:
        """Let another control process lead."""
        self.leadership.release()
        ring(self._bells, "control-*")
