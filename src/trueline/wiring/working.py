"""The worker's round: the first kind of work that has something waiting; and beside it, what tracking is told."""

from __future__ import annotations

import threading

from trueline.control.clocks import ReplayClock
from trueline.control.context import Context
from trueline.data.tables import Tables
from trueline.gates import loop as gates
from trueline.monitoring import evaluation
from trueline.pipelines.lane import Lane
from trueline.pipelines.loop import Training
from trueline.pipelines.tracked import Feeder
from trueline.wiring import tracking

PATIENCE_SECONDS = 10.0
FIRST_TIME_SECONDS = 120.0  # our own file is made by MLflow's migrations


class Worker:
    """Blocks before gates before runs: what others wait for longest goes first. Nobody waits for tracking."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tables = Tables(context.storage)
        self._training = Training(self._tables)
        self._tracking = Feeder(context, tracking.opener(context))
        self._lane: Lane | None = None

    def step(self) -> bool:
        context = self._context
        if isinstance(context.clock, ReplayClock):
            context.clock.refresh(context.store)
        busy = (
            evaluation.work_one(context, self._tables)
            or gates.work_one(context, self._tables)
            or self._training.work_one(context)
        )
        if busy and self._lane is not None:
            self._lane.nudge()
        return busy

    def feed_tracking(self) -> None:
        """Tell the tracking store what there is to tell, from now on and beside everything else."""
        self._lane = Lane("tracking", self._tracking.work_one)
        self._lane.start()

    def finish_tracking(self) -> None:
        """Tell it what can be told now, for who ends afterwards: not waiting for a store that is away, or long for a slow one."""
        tired = threading.Event()

        def work_one() -> bool:
            busy = self._tracking.work_one()
            if not busy:
                tired.set()
            return busy

        self._lane = Lane("tracking", work_one)
        self._lane.start()
        tired.wait(PATIENCE_SECONDS if self._context.project.engines.tracking else FIRST_TIME_SECONDS)
        self._lane.stop()

    def warm(self) -> None:
        """Start what the first training would wait for."""
        self._training.warm()

    def close(self) -> None:
        self._training.close()
        if self._lane is None or self._lane.stop():
            self._tracking.close()
        self._context.store.close()
