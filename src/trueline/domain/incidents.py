"""An incident: the model is worse than promised, from the alert that opened it to the evidence that closed it.

There are two kinds, because a season and a broken feed are two causes: the promise is not kept (*performance*), or an
input is shown to be broken in a slice (*upstream*). At most one of a kind is open in a project.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from trueline.domain.machines import Machine


class IncidentState(StrEnum):
    open = "open"
    acknowledged = "acknowledged"
    closed = "closed"


class IncidentKind(StrEnum):
    performance = "performance"
    upstream = "upstream"


class IncidentEvent(StrEnum):
    acknowledge = "acknowledge"
    close = "close"


INCIDENTS: Machine[IncidentState, IncidentEvent] = Machine[IncidentState, IncidentEvent](
    noun="incident",
    initial=IncidentState.open,
    table={
        IncidentState.open: {
            IncidentEvent.acknowledge: IncidentState.acknowledged,
            IncidentEvent.close: IncidentState.closed,
        },
        IncidentState.acknowledged: {IncidentEvent.close: IncidentState.closed},
        IncidentState.closed: {},
    },
)


@dataclass(frozen=True)
class Incident:
    id: str
    project: str
    state: IncidentState
    version: int
    reason: str
    advice: str
    opened_at: datetime
    closed_at: datetime | None
    closed_reason: str | None
    kind: IncidentKind = IncidentKind.performance
    cause: dict[str, Any] | None = None  # ranked suspects, and for a fault what it is, where and since when
