"""The staleness curve: how much worse a model is, the older it gets, than the freshest one on the same rows.

Each observation is one model in one block: its age and its mean loss beside that of the freshest model of that block.
Ages are gathered in bins, the ratio of sums is the estimate, and whole blocks are resampled for the band.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000


@dataclass(frozen=True)
class AgedLoss:
    block: str
    age_days: float
    loss: float
    freshest_loss: float


@dataclass(frozen=True)
class AgePoint:
    """At this age the loss is `ratio` times the freshest model's (1.04 is 4 % more)."""

    age_days: float
    ratio: float
    low: float
    high: float
    blocks: int


@dataclass(frozen=True)
class Staleness:
    points: tuple[AgePoint, ...]
    per_week: float  # relative loss gained per week of age, through 1 at the freshest's own age
    low: float
    high: float


def staleness(
    observations: Sequence[AgedLoss], *, bin_days: float = 7.0, confidence: float = 0.9, seed: int = 0
) -> Staleness:
    """The curve, with a two-sided band. The freshest model of each block is among the observations.

    >>> seen = [AgedLoss(str(day), age, 0.97 + 0.01 * age, 1.0) for day in range(20) for age in (3.0, 10.0, 17.0)]
    >>> curve = staleness(seen)
    >>> [round(point.ratio, 2) for point in curve.points], round(curve.per_week, 2)
    ([1.0, 1.07, 1.14], 0.07)
    """
    if not observations:
        return Staleness((), 0.0, 0.0, 0.0)
    names = sorted({seen.block for seen in observations})
    index = {name: number for number, name in enumerate(names)}
    bins: dict[int, list[AgedLoss]] = defaultdict(list)
    for seen in observations:
        bins[int(seen.age_days // bin_days)].append(seen)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    points = tuple(_point(found, index, draws, tails) for _, found in sorted(bins.items()))
    youngest: dict[str, float] = defaultdict(lambda: math.inf)
    for seen in observations:
        youngest[seen.block] = min(youngest[seen.block], seen.age_days)
    weeks = np.asarray([(seen.age_days - youngest[seen.block]) / 7 for seen in observations])
    gain = np.asarray([seen.loss - seen.freshest_loss for seen in observations])
    base = np.asarray([seen.freshest_loss for seen in observations])
    which = np.asarray([index[seen.block] for seen in observations])
    over, under = _sums(which, weeks * gain, len(names)), _sums(which, weeks**2 * base, len(names))
    if float(under.sum()) <= 0:
        return Staleness(points, 0.0, 0.0, 0.0)
    low, high = _band(draws, over, under, tails)
    return Staleness(points, float(over.sum() / under.sum()), low, high)


def _point(
    found: Sequence[AgedLoss], index: dict[str, int], draws: npt.NDArray[np.int64], tails: tuple[float, float]
) -> AgePoint:
    which = np.asarray([index[seen.block] for seen in found])
    mine = _sums(which, np.asarray([seen.loss for seen in found]), len(index))
    theirs = _sums(which, np.asarray([seen.freshest_loss for seen in found]), len(index))
    low, high = _band(draws, mine, theirs, tails)
    age = sum(seen.age_days for seen in found) / len(found)
    total = float(theirs.sum())
    return AgePoint(age, float(mine.sum()) / total if total > 0 else 1.0, low, high, len(set(which.tolist())))


def _sums(which: npt.NDArray[np.int64], values: npt.NDArray[np.float64], blocks: int) -> npt.NDArray[np.float64]:
    return np.asarray(np.bincount(which, values, blocks), dtype=np.float64)


def _band(
    draws: npt.NDArray[np.int64],
    over: npt.NDArray[np.float64],
    under: npt.NDArray[np.float64],
    tails: tuple[float, float],
) -> tuple[float, float]:
    below = draws @ under
    ratios = (draws @ over)[below > 0] / below[below > 0]
    if len(ratios) == 0:
        return 1.0, 1.0
    low, high = np.quantile(ratios, tails)
    return float(low), float(high)
