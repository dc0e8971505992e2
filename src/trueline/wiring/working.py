"""The worker's round: the first kind of work that has something waiting."""

from __future__ import annotations

from trueline.control.clocks import ReplayClock
from trueline.control.context import Context
from trueline.gates import loop as gates
from trueline.monitoring import evaluation
from trueline.pipelines.loop import Training
from trueline.pipelines.tracked import Feeder


class Worker:
    """Blocks before gates before runs before tracking: what others wait for longest goes first."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._training = Training()
        self._tracking = Feeder(context)

    def step(self) -> bool:
        context = self._context
        if isinstance(context.clock, ReplayClock):
            context.clock.refresh(context.store)
        kinds = (evaluation.work_one, gates.work_one, self._training.work_one, self._tracking.work_one)
        return any(work(context) for work in kinds)

    def close(self) -> None:
        self._training.close()
        self._tracking.close()
        self._context.store.close()
