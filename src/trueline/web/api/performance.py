"""The performance curve over HTTP: what each event-time day lost, what was promised, and who served."""

from __future__ import annotations

from datetime import date, datetime

import msgspec

from trueline.errors import InvalidInput
from trueline.web.api.calls import Call, view
from trueline.web.api.incidents import IncidentView
from trueline.web.api.services import Services

LONGEST = 1100
"""Days in one answer: three years."""


class DayView(msgspec.Struct, kw_only=True):
    """One block: a day's predictions that have a label, and their mean loss. No loss where nothing was labelled."""

    day: date
    predictions: int
    labelled: int
    loss: float | None = None
    champion: int | None = None  # when the day ended
    versions: dict[int, float] = {}  # mean loss of each version on the rows it scored, in shadow too


class PromiseView(msgspec.Struct, kw_only=True):
    """The loss that was promised: its reference, the upper bound of that, and the limit beyond which it pages."""

    mean: float
    upper: float
    limit: float


class ReignView(msgspec.Struct, kw_only=True):
    """A stretch in which one version had the traffic; without an end it still has."""

    version: int
    since: datetime
    until: datetime | None = None


class PerformanceView(msgspec.Struct, kw_only=True):
    metric: str  # what the loss is: "mean absolute error"
    target: str  # of which column
    days: list[DayView]  # oldest first, one for each block
    promise: PromiseView | None = None
    reigns: list[ReignView] = []
    incidents: list[IncidentView] = []
    earlier: bool = False  # whether there are days before these


class PerformanceQuery(msgspec.Struct, forbid_unknown_fields=True):
    days: int = 366
    until: date | None = None


def show(services: Services, call: Call) -> PerformanceView:
    asked: PerformanceQuery = call.query
    if not 1 <= asked.days <= LONGEST:
        raise InvalidInput(f"days must be between 1 and {LONGEST}, not {asked.days}")
    return view(services.performance(days=asked.days, until=asked.until), PerformanceView)
