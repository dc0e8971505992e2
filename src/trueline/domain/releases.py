"""A release: one version's way from its gate to all of the traffic, or back.

A *promoted* release has all the traffic but is still watched: the version it replaced stays warm and scores in shadow,
so that labelled loss can send it back. The watch ends (*done*) by time or when the next release starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from trueline.domain.machines import Machine


class ReleaseState(StrEnum):
    pending = "pending"
    shadow = "shadow"
    canary = "canary"
    promoted = "promoted"
    done = "done"
    rolled_back = "rolled_back"
    aborted = "aborted"


class ReleaseEvent(StrEnum):
    start_shadow = "start_shadow"
    start_canary = "start_canary"
    widen = "widen"  # the next canary step
    promote = "promote"
    roll_back = "roll_back"
    finish = "finish"
    abort = "abort"


RELEASES: Machine[ReleaseState, ReleaseEvent] = Machine[ReleaseState, ReleaseEvent](
    noun="release",
    initial=ReleaseState.pending,
    table={
        ReleaseState.pending: {
            ReleaseEvent.start_shadow: ReleaseState.shadow,
            ReleaseEvent.start_canary: ReleaseState.canary,
            ReleaseEvent.promote: ReleaseState.promoted,
            ReleaseEvent.abort: ReleaseState.aborted,
        },
        ReleaseState.shadow: {
            ReleaseEvent.start_canary: ReleaseState.canary,
            ReleaseEvent.promote: ReleaseState.promoted,
            ReleaseEvent.roll_back: ReleaseState.rolled_back,
            ReleaseEvent.abort: ReleaseState.aborted,
        },
        ReleaseState.canary: {
            ReleaseEvent.widen: ReleaseState.canary,
            ReleaseEvent.promote: ReleaseState.promoted,
            ReleaseEvent.roll_back: ReleaseState.rolled_back,
        },
        ReleaseState.promoted: {
            ReleaseEvent.finish: ReleaseState.done,
            ReleaseEvent.roll_back: ReleaseState.rolled_back,
        },
        ReleaseState.done: {},
        ReleaseState.rolled_back: {},
        ReleaseState.aborted: {},
    },
)
LIVE = (ReleaseState.shadow, ReleaseState.canary, ReleaseState.promoted)


@dataclass(frozen=True)
class Release:
    id: str
    project: str
    state: ReleaseState
    version: int
    previous: int | None  # the champion it sets out to replace
    step: int  # of the declared strategy
    vouched: bool  # merit was shown before, by gate or freshness
    evidence: dict[str, Any]
    reason: str
    actor: str
    created_at: datetime
    stage_since: datetime
    finished_at: datetime | None
    requests_answered: int  # by the released version, as canary
    rollback_ms: float | None  # decision to the last process's acknowledgement
