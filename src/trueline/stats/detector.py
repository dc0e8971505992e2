"""Watching for ever: e-detectors, whose promise is a rate of false alarms instead of a lifetime's probability.

From e-values of one block after another, e-SR is M ← (M + 1)·e and e-CUSUM M ← max(M, 1)·e. While the null holds in every
block, the average number of blocks until M reaches 1/α is at least 1/α: a budget of one false alarm in N blocks is the
threshold N. One detector runs for each fraction staked on a value in [−1, 1]; their mean keeps the promise.

Source: Shin, Ramdas & Rinaldo, "E-detectors: a nonparametric framework for sequential change detection" (2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.special import logsumexp

from trueline.stats.bounded_mean import BETS

EMPTY = -700.0
"""log 0, for something that is written down as JSON."""


class Kind(StrEnum):
    sum_of_starts = "e-SR"  # quicker for small changes
    best_start = "e-CUSUM"  # forgets quicker


@dataclass(frozen=True)
class Detector:
    """Log-wealth for each bet, of values whose expectation is at most zero while nothing has changed.

    >>> state = Detector()
    >>> for _ in range(12):
    ...     state = state.update(0.9)
    >>> state.n, state.alarms(365)
    (12, True)
    """

    kind: Kind = Kind.sum_of_starts
    n: int = 0
    logs: tuple[float, ...] = (EMPTY,) * len(BETS)

    def update(self, value: float) -> Detector:
        """One more block; its value is clipped to [−1, 1]."""
        gains = np.log1p(np.asarray(BETS) * min(max(value, -1.0), 1.0))
        before = np.asarray(self.logs)
        restarted = np.logaddexp(before, 0.0) if self.kind is Kind.sum_of_starts else np.maximum(before, 0.0)
        return replace(self, n=self.n + 1, logs=tuple(float(level) for level in restarted + gains))

    @property
    def log_wealth(self) -> float:
        return float(logsumexp(self.logs)) - math.log(len(self.logs))

    def alarms(self, blocks_per_false_alarm: float) -> bool:
        """Whether the evidence is past what a false alarm every so many blocks buys."""
        return self.log_wealth >= math.log(blocks_per_false_alarm)
