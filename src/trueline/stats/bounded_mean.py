"""The mean of bounded values by betting: a confidence sequence on [0, 1] and an e-process on [−1, 1].

To doubt that a mean is m (at most 0), stake a part of one's capital on each next value being larger: under the null
no strategy is expected to gain, so capital 1/α has probability α at most, at whatever moment one looks.

Source: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting" (JRSS-B 2024): the hedged
capital process with predictable plug-in bets (λ of their eq. 26, truncated at c = 1/2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from trueline.stats.proportion import Interval

BETS = (0.1, 0.25, 0.5, 0.75, 0.95)
"""Fixed fractions of the capital at stake, mixed in equal parts. Kept wealths belong to this grid: never change it."""


def log_capital(values: Sequence[float], means: Sequence[float], *, alpha: float) -> npt.NDArray[np.float64]:
    """Final hedged log-capital against each of `means`, for values in [0, 1]."""
    x = np.asarray(values, dtype=np.float64)
    m = np.asarray(means, dtype=np.float64)
    t = np.arange(1, len(x) + 1)
    centre = (0.5 + np.cumsum(x)) / (t + 1)
    spread = (0.25 + np.cumsum((x - centre) ** 2)) / (t + 1)
    before = np.concatenate(([0.25], spread[:-1]))
    bet = np.sqrt(2 * math.log(2 / alpha) / (before * t * np.log1p(t)))
    with np.errstate(divide="ignore"):
        up = np.minimum(bet[:, None], 0.5 / m[None, :])
        down = np.minimum(bet[:, None], 0.5 / (1 - m[None, :]))
    gap = x[:, None] - m[None, :]
    rise, fall = np.log1p(up * gap).sum(axis=0), np.log1p(-down * gap).sum(axis=0)
    return np.asarray(np.maximum(rise, fall) + math.log(0.5), dtype=np.float64)


def confidence_sequence(values: Sequence[float], *, alpha: float, steps: int = 1000) -> Interval:
    """Where the mean of values in [0, 1] lies; the ends are on a grid of 1/`steps`, outwards.

    >>> golden = [0.1 + 0.4 * (0.6180339887498949 * i % 1) for i in range(1, 1001)]
    >>> confidence_sequence(golden, alpha=0.05)
    Interval(low=0.288, high=0.312)
    """
    if len(values) == 0:
        return Interval(0.0, 1.0)
    grid = np.arange(1, steps) / steps
    kept = grid[log_capital(values, grid.tolist(), alpha=alpha) < math.log(1 / alpha)]
    if len(kept) == 0:  # the interval fell between two grid points
        middle = round(float(np.mean(values)) * steps) / steps
        return Interval(max(middle - 1 / steps, 0.0), min(middle + 1 / steps, 1.0))
    return Interval(round(float(kept[0]) - 1 / steps, 12), round(float(kept[-1]) + 1 / steps, 12))


@dataclass(frozen=True)
class Bets:
    """Log-wealth against "no value is expected above zero", for values in [−1, 1]; two of them add.

    >>> state = Bets()
    >>> for _ in range(10):
    ...     state = state.update(0.8)
    >>> state.n, round(state.log_wealth, 2)
    (10, 4.46)
    """

    n: int = 0
    logs: tuple[float, ...] = (0.0,) * len(BETS)

    def update(self, value: float) -> Bets:
        return self + bet([value])

    def __add__(self, other: Bets) -> Bets:
        return Bets(self.n + other.n, tuple(mine + its for mine, its in zip(self.logs, other.logs, strict=True)))

    @property
    def log_wealth(self) -> float:
        """The mixture's log-wealth: at ln(1/α) the null is rejected, at level α over all looks."""
        return float(logsumexp(self.logs)) - math.log(len(self.logs))


def bet(values: Sequence[float]) -> Bets:
    """The evidence in a batch of values; larger ones are clipped to [−1, 1] (freeze the scale beforehand)."""
    x = np.clip(np.asarray(values, dtype=np.float64), -1.0, 1.0)
    logs = np.log1p(np.asarray(BETS)[:, None] * x[None, :]).sum(axis=1)
    return Bets(len(x), tuple(float(total) for total in logs))
