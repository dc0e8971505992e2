"""One rate, watched continuously: a confidence sequence, and a test that the rate is below a floor.

The sequence inverts a beta-binomial mixture martingale: with a prior Beta(cp, c(1−p)) around each tried rate p, the
ratio of mixture to Bernoulli likelihood has mean one when p is true, at every stopping time. The test below a floor
bets on rates smaller than the floor; most of the stake is on "never", so clean requests prove it soonest.

Sources: Robbins (1970); Howard, Ramdas, McAuliffe & Sekhon (2021), whose `confseq` gives the same figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaln, logsumexp, xlogy

TUNED_AT = 0.05
"""The level at which the mixture is tuned to be tightest at `tuned_for` observations (as confseq does)."""

BELOW = (0.0, 0.125, 0.25, 0.5)
STAKES = (0.9, 0.04, 0.03, 0.03)
"""Bets on the rate, as fractions of the floor, and what is staked on each."""


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


def confidence_sequence(bad: int, n: int, *, alpha: float, tuned_for: int = 100) -> Interval:
    """Where the rate lies, with an error of `alpha` over all looks together.

    >>> found = confidence_sequence(15, 50, alpha=0.05, tuned_for=50)
    >>> round(found.low, 6), round(found.high, 6)
    (0.129557, 0.511896)
    """
    if n == 0:
        return Interval(0.0, 1.0)
    logs = 2 * math.log(1 / TUNED_AT)
    strength = max(tuned_for / (logs + math.log1p(logs)) - 1, 1e-3)
    limit = math.log(1 / alpha)

    def excess(rate: float) -> float:
        a, b = strength * rate, strength * (1 - rate)
        mixture = betaln(a + bad, b + n - bad) - betaln(a, b)
        return float(mixture - bad * math.log(rate) - (n - bad) * math.log1p(-rate)) - limit

    edge = 1e-12
    middle = min(max(bad / n, edge), 1 - edge)
    low = brentq(excess, edge, middle) if bad > 0 and excess(edge) > 0 else 0.0
    high = brentq(excess, middle, 1 - edge) if bad < n and excess(1 - edge) > 0 else 1.0
    return Interval(float(low), float(high))


def log_e_below(bad: int, n: int, *, floor: float) -> float:
    """Evidence that a rate is below `floor`: shown at ln(1/β), after about ln(1/β)/floor requests without a failure.

    >>> round(log_e_below(0, 470, floor=0.01), 2) >= round(math.log(100), 2)
    True
    """
    rates = floor * np.asarray(BELOW)
    gains = xlogy(bad, rates / floor) + (n - bad) * (np.log1p(-rates) - math.log1p(-floor))
    return float(logsumexp(gains, b=np.asarray(STAKES)))


def clean_requests_needed(*, floor: float, beta: float) -> int:
    """How many requests without one failure show a rate below `floor`.

    >>> clean_requests_needed(floor=0.01, beta=0.01)
    469
    """
    return math.ceil(math.log(1 / (beta * STAKES[0])) / -math.log1p(-floor))
