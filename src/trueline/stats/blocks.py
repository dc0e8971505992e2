"""Blocks: rows of one event-time day share that day's luck, so a day is one observation of a paired comparison.

Compared row by row over one week, two *exchangeable* models differ "significantly" in most runs (the flights data:
69-81 % at a nominal 5 %); compared by day means they do so as often as promised. Two tools: a bounded block value to bet
on (shadow tests, monitors), and a bootstrap of blocks for an offline verdict (gates).

Sources: Künsch (1989) for blocks; Hesterberg, "What teachers should know about the bootstrap" (2015), for the expanded
percentile, without which the bootstrap of a week is too sure of itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

RESAMPLES = 4000
UNBOUNDED = 1e9
"""An upper limit that nothing supports, as a number that JSON can carry."""


@dataclass(frozen=True)
class BlockPair:
    """Mean losses of two models on the same rows of one block."""

    block: str
    rows: int
    loss: float
    other: float


@dataclass(frozen=True)
class RelativeDifference:
    """Loss of one model relative to the other's: 0.02 is 2 % worse. `low` and `high` are one-sided limits each."""

    estimate: float
    low: float
    high: float
    blocks: int
    rows: int


def block_value(difference: float, *, reference: float, margin: float, bound: float) -> float:
    """A block's mean paired loss difference beyond the margin, in units of `bound`·`reference`, clipped to [−1, 1].

    Everything but the difference is frozen before the block.

    >>> round(block_value(0.3, reference=2.0, margin=0.05, bound=0.5), 6)
    0.2
    """
    return min(max((difference - margin * reference) / (bound * reference), -1.0), 1.0)


def mean_upper_bound(values: Sequence[float], *, confidence: float) -> float:
    """Student's one-sided upper bound of the mean, each block one observation (at least two).

    >>> round(mean_upper_bound([10.0, 11.0, 9.0, 10.0], confidence=0.95), 2)
    10.96
    """
    x = np.asarray(values, dtype=np.float64)
    slack = float(stdtrit(len(x) - 1, confidence)) * float(np.std(x, ddof=1)) / math.sqrt(len(x))
    return float(np.mean(x)) + slack


def relative_difference(
    pairs: Sequence[BlockPair], *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> RelativeDifference:
    """The relative loss difference over all rows, with one-sided limits from resampling whole blocks.

    >>> pairs = [BlockPair(str(day), 100, 1.1 + 0.01 * (day % 3), 1.0) for day in range(12)]
    >>> found = relative_difference(pairs)
    >>> round(found.estimate, 3), round(found.low, 2), round(found.high, 2)
    (0.11, 0.11, 0.11)
    """
    rows = np.asarray([pair.rows for pair in pairs], dtype=np.float64)
    mine = rows * np.asarray([pair.loss for pair in pairs], dtype=np.float64)
    theirs = rows * np.asarray([pair.other for pair in pairs], dtype=np.float64)
    blocks = len(pairs)
    total = float(theirs.sum())
    if blocks < 2 or total <= 0:
        estimate = float(mine.sum()) / total - 1 if total > 0 else 0.0
        return RelativeDifference(estimate, -1.0, UNBOUNDED, blocks, int(rows.sum()))
    estimate = float(mine.sum()) / total - 1
    draws = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)
    under = draws @ theirs
    ratios = np.divide(draws @ mine, under, out=np.full(resamples, estimate + 1), where=under > 0) - 1
    tail = float(ndtr(math.sqrt(blocks / (blocks - 1)) * stdtrit(blocks - 1, 1 - confidence)))
    low, high = np.quantile(ratios, (tail, 1 - tail))
    return RelativeDifference(estimate, float(low), float(high), blocks, int(rows.sum()))
