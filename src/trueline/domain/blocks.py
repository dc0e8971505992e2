"""A block: one event-time day of predictions and their labels, evaluated once when its labels are due.

The day is the unit of evidence for every loss (rows of one day share that day's luck), so it is the unit of work too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from trueline.domain.machines import Machine


class BlockState(StrEnum):
    due = "due"
    evaluating = "evaluating"
    evaluated = "evaluated"  # evidence recorded by a worker
    judged = "judged"  # consumed by monitor, rehearsal and release, each exactly once


class BlockEvent(StrEnum):
    claim = "claim"
    requeue = "requeue"
    evaluate = "evaluate"
    judge = "judge"


BLOCKS: Machine[BlockState, BlockEvent] = Machine[BlockState, BlockEvent](
    noun="block",
    initial=BlockState.due,
    table={
        BlockState.due: {BlockEvent.claim: BlockState.evaluating},
        BlockState.evaluating: {
            BlockEvent.claim: BlockState.evaluating,
            BlockEvent.requeue: BlockState.due,
            BlockEvent.evaluate: BlockState.evaluated,
        },
        BlockState.evaluated: {BlockEvent.judge: BlockState.judged},
        BlockState.judged: {},
    },
)


@dataclass(frozen=True)
class Block:
    id: str
    project: str
    state: BlockState
    day: str  # ISO date, UTC, of event time
    due_at: datetime
    evidence: dict[str, Any] | None
