"""Counters of this process; exposition.py shows them. Plain integers: there is one thread."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Histogram:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Sequence[float]) -> None:
        """At least one."""
        bounds, counts = self.bounds, self.counts
        lowest, highest = bisect_left(bounds, min(values)), bisect_left(bounds, max(values))
        if lowest == highest:  # as what came together mostly is
            counts[lowest] += len(values)
        else:
            for value in values:
                counts[bisect_left(bounds, value)] += 1
        self.total += sum(values)


class Metrics:
    """Everything `/metrics` shows. Versions are labels as text; a request that reached none has ''."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str, int], int] = defaultdict(int)  # model, version, role, code
        self.duration: dict[int, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.queue: dict[int, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.execution: dict[int, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.batch: dict[int, Histogram] = defaultdict(lambda: Histogram(ROWS))
        self.shadowed: dict[int, int] = defaultdict(int)
        self.shadow_dropped: dict[int, int] = defaultdict(int)
        self.failures: dict[tuple[int, str], int] = defaultdict(int)  # version, outcome
        self.restarts: dict[int, int] = defaultdict(int)
        self.doubtful: dict[tuple[int, str], int] = defaultdict(int)  # version, column
        self.labels = 0
        self.unrecorded = 0
        self.in_progress = 0
