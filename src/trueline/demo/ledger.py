"""Who answered what, and how far off it was: the demo's own books, kept flight by flight.

They are kept apart from trueline's tables on purpose: the figures the demo ends with are counted by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from trueline.demo.flights import Flight

POLICIES = ("frozen", "monthly", "trueline")
Floats = NDArray[np.float64]


@dataclass
class Ledger:
    flights: Sequence[Flight]
    frozen: Floats
    monthly: Floats
    trueline: Floats = field(init=False)
    version: NDArray[np.int64] = field(init=False)
    truth: Floats = field(init=False)
    days: NDArray[np.datetime64] = field(init=False)
    prediction_ids: dict[int, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)  # what the server said to requests that it did not answer
    labelled: int = 0

    def __post_init__(self) -> None:
        count = len(self.flights)
        self.trueline = np.full(count, np.nan)
        self.version = np.zeros(count, dtype=np.int64)
        self.truth = np.array(
            [np.nan if one.air_time is None else one.air_time for one in self.flights], dtype=np.float64
        )
        self.days = np.array([one.scheduled.date() for one in self.flights], dtype="datetime64[D]")

    def answered(self, flight: Flight, prediction: float, version: int, prediction_id: str) -> None:
        self.trueline[flight.number] = prediction
        self.version[flight.number] = version
        self.prediction_ids[flight.number] = prediction_id

    def errors(self, policy: str) -> Floats:
        """Absolute error of each flight in minutes; NaN where nothing was answered or the flight never landed."""
        answers: Floats = getattr(self, policy)
        return np.abs(answers - self.truth)

    def mae(self, policy: str, since: datetime, until: datetime, version: int | None = None) -> float:
        """Mean absolute error over the days from `since` up to `until`; NaN without a labelled flight."""
        return mean(self.errors(policy)[self.mask(since, until, version)])

    def mask(self, since: datetime, until: datetime, version: int | None = None) -> NDArray[np.bool_]:
        low, high = (np.datetime64(moment.date(), "D") for moment in (since, until))
        chosen: NDArray[np.bool_] = (self.days >= low) & (self.days < high)
        return chosen if version is None else chosen & (self.version == version)

    def series(self, policy: str, width: int = 7) -> tuple[NDArray[np.datetime64], Floats]:
        """Mean absolute error of consecutive spans of `width` days, as (first days, errors)."""
        first = self.days.min()
        span = (self.days - first).astype(np.int64) // width
        errors = self.errors(policy)
        landed = np.isfinite(errors)
        count = np.bincount(span[landed], minlength=int(span.max()) + 1)
        total = np.bincount(span[landed], weights=errors[landed], minlength=int(span.max()) + 1)
        with np.errstate(invalid="ignore"):
            return first + np.arange(len(count)) * width, np.where(count > 0, total / np.maximum(count, 1), np.nan)


def mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
