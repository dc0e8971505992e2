r"""Which arm do the bad events fall on? The sequential test behind every error guard.

Only bad requests (failed, timed out, invalid, slower than a frozen cut) are looked at. If the canary gets the share ρ
of the traffic and fails R times as often as the champion, a bad event is the canary's with probability
θ(R) = ρR / (ρR + 1 − ρ). Base rates that wander over the day cancel, good requests need not be counted, and the
wealth of a bet against "R is at most (at least) so much" may be looked at after every request.

Two questions with two thresholds, or a candidate exactly at the tolerance never ends: *worse* bets against R ≤ inner
(roll back), *better* against R ≥ tolerance (promote). Between the two either answer is acceptable.

Validity needs random assignment with a share known beforehand, one observation per unit (with sticky routing the
user's first request, not each of them), and each event counted once.

Sources: Lindon & Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022); Johari et al. (2022);
mixtures by Robbins. The grid form multiplies over ramp stages because each factor uses the share of its own moment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincc, betaln, logsumexp

RATIOS = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""How far beyond its threshold each bet expects the truth to be. Kept wealths belong to this grid: never change it."""

NOTHING = -700.0
"""A log-wealth that is as good as zero, and still a finite number in JSON."""


def bad_share(share: float, ratio: float) -> float:
    """The probability that a bad event is the canary's, when it fails `ratio` times as often.

    >>> round(bad_share(0.1, 2.0), 4)
    0.1818
    """
    return share * ratio / (share * ratio + 1 - share)


def prior_strength(share: float, ratio: float) -> float:
    """The `k` that makes the prior about as wide as the gap between equal and `ratio` times worse."""
    centre, gap = bad_share(share, 1.0), bad_share(share, ratio) - bad_share(share, 1.0)
    return centre * (1 - centre) / gap**2


def log_e_worse(canary: int, champion: int, *, centre: float, k: float) -> float:
    """Evidence that bad events fall on the canary more often than `centre`, at one constant share.

    >>> round(log_e_worse(10, 50, centre=0.1, k=10), 6)
    0.725598
    """
    a, b = k * centre, k * (1 - centre)
    sides = float(betaincc(a + canary, b + champion, centre)), float(betaincc(a, b, centre))
    return _one_sided(canary, champion, centre=centre, k=k, sides=sides)


def log_e_better(canary: int, champion: int, *, centre: float, k: float) -> float:
    """Evidence that bad events fall on the canary less often than `centre` (see `bad_share` of the tolerance).

    >>> round(log_e_better(10, 50, centre=0.1, k=10), 6)
    -2.168417
    """
    a, b = k * centre, k * (1 - centre)
    sides = float(betainc(a + canary, b + champion, centre)), float(betainc(a, b, centre))
    return _one_sided(canary, champion, centre=centre, k=k, sides=sides)


def _one_sided(canary: int, champion: int, *, centre: float, k: float, sides: tuple[float, float]) -> float:
    """The two-sided mixture, restricted to one side of `centre`, which has these masses after and before the data."""
    after, before = sides
    if after == 0:  # underflow: overwhelming evidence for the other side; saying less keeps the test valid
        return NOTHING
    a, b = k * centre, k * (1 - centre)
    two_sided = betaln(a + canary, b + champion) - betaln(a, b)
    likelihood = canary * math.log(centre) + champion * math.log1p(-centre)
    return float(two_sided - likelihood + math.log(after) - math.log(before))


@dataclass(frozen=True)
class Thresholds:
    """Error ratios: up to `inner` nothing is rolled back, from `tolerance` on nothing is promoted."""

    inner: float
    tolerance: float

    @classmethod
    def of(cls, tolerance: float) -> Thresholds:
        """The inner threshold halfway (in ratio) between equal and the tolerance.

        >>> Thresholds.of(4.0)
        Thresholds(inner=2.0, tolerance=4.0)
        """
        return cls(math.sqrt(tolerance), tolerance)


@dataclass(frozen=True)
class BadEvents:
    """Bad events by arm with the log-wealth of every bet; two of them add, whatever the shares were.

    >>> thresholds = Thresholds.of(2.0)
    >>> state = BadEvents()
    >>> for _ in range(12):
    ...     state = state.update(thresholds, canary=True, share=0.25)
    >>> state.canary, round(state.log_worse, 1)
    (12, 9.6)
    """

    canary: int = 0
    champion: int = 0
    worse: tuple[float, ...] = (0.0,) * len(RATIOS)
    better: tuple[float, ...] = (0.0,) * len(RATIOS)

    def update(self, thresholds: Thresholds, *, canary: bool, share: float) -> BadEvents:
        """One more bad event, on an arm that had this share of the traffic."""
        return self + count(thresholds, [canary], [share])

    def __add__(self, other: BadEvents) -> BadEvents:
        return BadEvents(
            self.canary + other.canary,
            self.champion + other.champion,
            tuple(mine + its for mine, its in zip(self.worse, other.worse, strict=True)),
            tuple(mine + its for mine, its in zip(self.better, other.better, strict=True)),
        )

    @property
    def log_worse(self) -> float:
        """Log-wealth against "at most `inner` times as many"; rolls back at ln(1/α)."""
        return float(logsumexp(self.worse)) - math.log(len(self.worse))

    @property
    def log_better(self) -> float:
        """Log-wealth against "at least `tolerance` times as many"; shown within at ln(1/β)."""
        return float(logsumexp(self.better)) - math.log(len(self.better))


def count(thresholds: Thresholds, canary: Sequence[bool], share: Sequence[float]) -> BadEvents:
    """The evidence in a batch of bad events, each with its arm and the canary's share at its moment.

    Events at shares 0 and 1 were not randomised and are left out.
    """
    arm = np.asarray(canary, dtype=bool)
    rho = np.asarray(share, dtype=np.float64)
    random = (rho > 0) & (rho < 1)
    arm, rho = arm[random], rho[random]
    worse, better = log_factors(thresholds, arm, rho)
    return BadEvents(int(arm.sum()), int((~arm).sum()), _totals(worse), _totals(better))


def log_factors(
    thresholds: Thresholds, arm: npt.NDArray[np.bool_], rho: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What each event does to each bet: arrays of (events, bets) for worse and for better."""
    steps = np.asarray(RATIOS)
    worse = _likelihood_ratios(arm, rho, thresholds.inner, thresholds.inner * steps)
    return worse, _likelihood_ratios(arm, rho, thresholds.tolerance, thresholds.tolerance / steps)


def _likelihood_ratios(
    arm: npt.NDArray[np.bool_], rho: npt.NDArray[np.float64], null: float, bets: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    # log θ_bet/θ_null on the canary, log (1−θ_bet)/(1−θ_null) on the champion; the denominators are shared
    slack = np.log((rho * null + 1 - rho)[:, None] / (rho[:, None] * bets[None, :] + (1 - rho)[:, None]))
    return np.asarray(slack + np.where(arm[:, None], np.log(bets / null)[None, :], 0.0), dtype=np.float64)


def _totals(logs: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(total) for total in logs.sum(axis=0))
