"""Labelled loss of randomised arms: is the canary's mean loss beyond, or within, its tolerance?

The unit is the prediction (with sticky routing, the one of the user's first request). With arm A, known canary share
ρ, loss Y clipped to [0, 1] by a scale frozen before the release, and a constant m frozen likewise,

    W = (A/ρ)(Y − m) − (1 + t)·((1 − A)/(1 − ρ))(Y − m) − t·m      has      E[W] = μ_canary − (1 + t)·μ_champion

whatever m is; m near the usual loss makes W small (a control variate). Betting on W against E[W] ≤ 0 at the inner
threshold shows *harm*; betting on −W against E[W] ≥ 0 at the tolerance shows *within*. The hash decides A, so day luck,
drifting bases and ramps cancel. A bet is a fixed fraction of the largest one that cannot bankrupt at this row's ρ, so
rows of different shares multiply, and the logarithms of batches add.

Labels must arrive independently of the arm (check the sample ratio of labelled rows too).

Sources: Waudby-Smith & Ramdas (2024) for the bets; Lindon, Ham, Tingley & Bojinov, "Anytime-valid inference in
design-based experiments" (2022) for the inverse-probability form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

Numbers = npt.NDArray[np.float64]
FRACTIONS = (0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 0.95)
"""Bets as fractions of the largest safe one. Kept wealths belong to this grid: never change it."""


@dataclass(frozen=True)
class ArmsDesign:
    """What is fixed before a release: loss increases (0.05 is 5 %) and the control variate."""

    inner: float  # up to here nothing is rolled back
    tolerance: float  # from here on nothing is promoted
    centre: float  # the champion's usual clipped loss, in (0, 1)

    @classmethod
    def of(cls, tolerance: float, centre: float) -> ArmsDesign:
        """With the inner threshold halfway to the tolerance."""
        return cls(tolerance / 2, tolerance, min(max(centre, 0.01), 0.99))


@dataclass(frozen=True)
class Arms:
    """What labelled rows of both arms say; two of them add.

    >>> design = ArmsDesign.of(0.05, centre=0.2)
    >>> state = observe(design, [True, False] * 200, [0.6, 0.2] * 200, [0.5] * 400)
    >>> state.canary, state.log_harm > 4.6, state.log_within < 0
    (200, True, True)
    """

    canary: int = 0
    champion: int = 0
    canary_loss: float = 0.0  # sums of clipped loss
    champion_loss: float = 0.0
    harm: tuple[float, ...] = (0.0,) * len(FRACTIONS)
    within: tuple[float, ...] = (0.0,) * len(FRACTIONS)

    def __add__(self, other: Arms) -> Arms:
        return Arms(
            self.canary + other.canary,
            self.champion + other.champion,
            self.canary_loss + other.canary_loss,
            self.champion_loss + other.champion_loss,
            tuple(mine + its for mine, its in zip(self.harm, other.harm, strict=True)),
            tuple(mine + its for mine, its in zip(self.within, other.within, strict=True)),
        )

    @property
    def log_harm(self) -> float:
        """Log-wealth against "at most `inner` worse"; rolls back at ln(1/α)."""
        return float(logsumexp(self.harm)) - math.log(len(self.harm))

    @property
    def log_within(self) -> float:
        """Log-wealth against "at least `tolerance` worse"; shown within at ln(1/β)."""
        return float(logsumexp(self.within)) - math.log(len(self.within))


def observe(design: ArmsDesign, canary: Sequence[bool], loss: Sequence[float], share: Sequence[float]) -> Arms:
    """The evidence in a batch of labelled rows: arm, loss already divided by its frozen scale, canary's share then.

    Rows at shares 0 and 1 were not randomised and are left out; losses are clipped to [0, 1].
    """
    arm = np.asarray(canary, dtype=bool)
    y = np.clip(np.asarray(loss, dtype=np.float64), 0.0, 1.0)
    rho = np.asarray(share, dtype=np.float64)
    random = (rho > 0) & (rho < 1)
    arm, y, rho = arm[random], y[random], rho[random]
    harm, within = log_factors(design, arm, y, rho)
    losses = float(y[arm].sum()), float(y[~arm].sum())
    return Arms(int(arm.sum()), int((~arm).sum()), *losses, _totals(harm), _totals(within))


def log_factors(design: ArmsDesign, arm: npt.NDArray[np.bool_], y: Numbers, rho: Numbers) -> tuple[Numbers, Numbers]:
    """What each row does to each bet: arrays of (rows, bets) for harm and for within."""
    m, fractions = design.centre, np.asarray(FRACTIONS)
    worse = _contrast(design.inner, m, arm, y, rho) / _deepest(design.inner, m, rho)
    closer = -_contrast(design.tolerance, m, arm, y, rho) / _highest(design.tolerance, m, rho)
    return np.log1p(worse[:, None] * fractions), np.log1p(closer[:, None] * fractions)


def _contrast(t: float, m: float, arm: npt.NDArray[np.bool_], y: Numbers, rho: Numbers) -> Numbers:
    return np.where(arm, (y - m) / rho, -(1 + t) * (y - m) / (1 - rho)) - t * m


def _deepest(t: float, m: float, rho: Numbers) -> Numbers:
    """How far below zero W can fall: a canary without loss, or a champion with all of it."""
    return np.maximum(m / rho, (1 + t) * (1 - m) / (1 - rho)) + t * m


def _highest(t: float, m: float, rho: Numbers) -> Numbers:
    """How far above zero W can rise; never less than a little, so that its reciprocal is a bet."""
    return np.maximum(np.maximum((1 - m) / rho, (1 + t) * m / (1 - rho)) - t * m, 1e-3)


def _totals(logs: Numbers) -> tuple[float, ...]:
    return tuple(float(total) for total in logs.sum(axis=0))
