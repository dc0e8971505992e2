"""The worker's round: the first kind of work that has something waiting."""

from __future__ import annotations

from trueline.control.clocks import ReplayClock
from trueline.control.context import Context
from trueline.data.tables import Tables
from trueline.gates import loop as gates
from trueline.monitoring import evaluation
from trueline.pipelines.loop import Training
from trueline.pipelines.tracked import Feeder


class Worker:
    """Blocks before gates before runs before tracking: what others wait for longest goes first."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tables = Tables(context.folder.root / "tables")
        self._training = Training(self._tables)
        self._tracking = Feeder(context)

    def step(self) -> bool:
        context = self._context
        if isinstance(context.clock, ReplayClock):
            context.clock.refresh(context.store)
        return (
            evaluation.work_one(context, self._tables)
            or gates.work_one(context, self._tables)
            or self._training.work_one(context)
            or self._tracking.work_one(context)
        )

    def warm(self) -> None:
        """Start what the first training would wait for."""
        self._training.warm()

    def close(self) -> None:
        self._training.close()
        self._tracking.close()
        self._context.store.close()
