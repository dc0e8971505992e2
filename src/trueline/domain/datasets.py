"""A dataset version: rows under our own number, with a digest of their logical content."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class DatasetVersion:
    project: str
    number: int
    digest: str
    rows: int
    origin: str  # source | feedback
    delta_version: int
    created_at: datetime
