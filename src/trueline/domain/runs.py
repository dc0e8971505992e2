"""A run: one training, from a trigger to a packaged model version or a sentence why not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from trueline.domain.machines import Machine


class RunState(StrEnum):
    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


class RunEvent(StrEnum):
    claim = "claim"
    requeue = "requeue"  # its worker died or could not go on; nothing of the attempt counts
    succeed = "succeed"
    fail = "fail"
    cancel = "cancel"
    resume = "resume"  # somebody has it go on: what is finished stays


class Purpose(StrEnum):
    """Why a run was started."""

    manual = "manual"
    rehearsal = "rehearsal"
    alert = "alert"
    promotion = "promotion"  # brings a version of another target here; nothing is trained


RUNS: Machine[RunState, RunEvent] = Machine[RunState, RunEvent](
    noun="run",
    initial=RunState.queued,
    table={
        RunState.queued: {RunEvent.claim: RunState.running, RunEvent.cancel: RunState.cancelled},
        RunState.running: {
            RunEvent.claim: RunState.running,  # a dead owner's lease is taken over, with the next fence token
            RunEvent.requeue: RunState.queued,
            RunEvent.succeed: RunState.succeeded,
            RunEvent.fail: RunState.failed,
        },
        RunState.succeeded: {},
        RunState.failed: {RunEvent.resume: RunState.queued},
        RunState.cancelled: {},
    },
)


@dataclass(frozen=True)
class Run:
    id: str
    project: str
    state: RunState
    purpose: Purpose
    entry: str  # module.py:function
    params: dict[str, Any]
    source: str | None  # another source than the project's, for this run only
    release: bool  # goes to release when its gate passes
    cut_at: datetime  # rows before it train, rows from it on are held out
    window_from: datetime
    reason: str
    actor: str
    dataset: int | None
    key: str | None  # of code, parameters, data and environment: an equal key is not trained again
    key_parts: dict[str, Any] | None
    cached_from: str | None
    tree: str | None  # digest of the exact code tree, uncommitted changes too
    version: int | None
    metrics: dict[str, float] | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None
    origin: dict[str, Any] | None = None  # of a promotion: target, version, digest and what was known of it there
