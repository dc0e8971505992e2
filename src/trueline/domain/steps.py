"""A step: one function of a run's pipeline, from waiting for its inputs to an output that is kept.

Who holds the run holds its steps: a step is moved only together with proof that the run is still held, and its own fence
grows with every attempt, so what a slow attempt says late is refused. An output that was committed is not made again,
unless what it was made from changes (`reopen`) or an equal one is found before it starts (`reuse`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from trueline.domain.machines import Machine


class StepState(StrEnum):
    waiting = "waiting"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    dropped = "dropped"


class StepEvent(StrEnum):
    claim = "claim"
    reuse = "reuse"  # an earlier step with the same key has made the output
    succeed = "succeed"
    retry = "retry"  # the attempt failed, and another one is allowed
    fail = "fail"
    reopen = "reopen"  # what it was made from changed, its output is gone, or its failed run goes on
    drop = "drop"  # the pipeline has no such step any more


STEPS: Machine[StepState, StepEvent] = Machine[StepState, StepEvent](
    noun="step",
    initial=StepState.waiting,
    table={
        StepState.waiting: {
            StepEvent.claim: StepState.running,
            StepEvent.reuse: StepState.succeeded,
            StepEvent.drop: StepState.dropped,
        },
        StepState.running: {
            StepEvent.claim: StepState.running,  # its run was taken over from a dead holder
            StepEvent.succeed: StepState.succeeded,
            StepEvent.retry: StepState.waiting,
            StepEvent.fail: StepState.failed,
            StepEvent.reopen: StepState.waiting,
        },
        StepState.succeeded: {StepEvent.reopen: StepState.waiting, StepEvent.drop: StepState.dropped},
        StepState.failed: {StepEvent.reopen: StepState.waiting, StepEvent.drop: StepState.dropped},
        StepState.dropped: {StepEvent.reopen: StepState.waiting},
    },
)

LONGEST_BACKOFF = timedelta(minutes=1)


@dataclass(frozen=True)
class Step:
    id: str  # run:name
    run: str
    project: str
    name: str
    number: int  # its place in the pipeline
    state: StepState
    entry: str  # file:function
    needs: list[str]  # names of the steps it takes from
    retries: int
    timeout: float | None
    key: str | None
    key_parts: dict[str, Any] | None
    output: dict[str, Any] | None  # the tree of what it returned
    cached_from: str | None
    failures: int  # of its own; an attempt that died with its worker is none
    error: str | None
    started_at: datetime | None
    finished_at: datetime | None
    not_before: datetime | None
    fence: int


def step_id(run: str, name: str) -> str:
    return f"{run}:{name}"


def backoff(failures: int) -> timedelta:
    """How long to wait after so many failures.

    >>> [backoff(count).seconds for count in (1, 2, 3, 9)]
    [1, 2, 4, 60]
    """
    return min(timedelta(seconds=2.0 ** (failures - 1)), LONGEST_BACKOFF)
