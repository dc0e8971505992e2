"""A gate: one judgement of one version, asked for, taken by a worker, decided with its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from trueline.domain.machines import Machine


class GateState(StrEnum):
    pending = "pending"
    evaluating = "evaluating"
    decided = "decided"


class GateEvent(StrEnum):
    claim = "claim"
    requeue = "requeue"
    decide = "decide"


GATES: Machine[GateState, GateEvent] = Machine[GateState, GateEvent](
    noun="gate",
    initial=GateState.pending,
    table={
        GateState.pending: {GateEvent.claim: GateState.evaluating},
        GateState.evaluating: {
            GateEvent.claim: GateState.evaluating,
            GateEvent.requeue: GateState.pending,
            GateEvent.decide: GateState.decided,
        },
        GateState.decided: {},
    },
)


@dataclass(frozen=True)
class Gate:
    id: str
    project: str
    state: GateState
    version: int
    champion: int | None  # it was compared with
    verdict: str | None
    reason: str | None
    evidence: dict[str, Any] | None
    vouched: bool  # by a freshness process standing at 1/alpha when the gate was asked for
    waived_by: str | None
    waiver: str | None
    created_at: datetime
    decided_at: datetime | None
