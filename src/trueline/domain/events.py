"""An event: what happened, to what, when, who did it, and why. The log of these is audit, timeline and lineage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Event:
    id: int
    at: datetime  # event time
    wall_at: datetime
    project: str
    kind: str  # noun.what, for example release.promote
    ref: str  # the id of the thing
    actor: str
    reason: str
    detail: dict[str, Any]
