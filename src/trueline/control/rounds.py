"""What one round of a controller says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Round:
    busy: bool  # it changed something: look again
    next_due: datetime | None = None  # when it has something to do next, as far as is known now
