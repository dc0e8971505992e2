"""An incident: something is wrong with what is served, from the alert that opened it to what closed it.

There are three kinds. A season and a broken feed are two causes of a model that is worse than promised: the promise is
not kept (*performance*), or an input is shown to be broken in a slice (*upstream*). And predictions may be given that
nobody can judge later, because they are not recorded or do not reach the tables (*journal*). At most one of a kind is
open in a project.
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
    journal = "journal"


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
