"""Did a level jump, and when? A scan over the last days of many short series at once, each day one observation.

Nothing is assumed of a series but that its days are exchangeable while nothing has changed. For a start day, the days
before it are the pool. Each day from the start on has a rank among the pool and the new days before it, and those ranks
are independent and uniform whatever the distribution is; the bet is that the i-th new day is among the i highest (or
lowest; a second bet leaves some slack for days that overlap). A jump that separates w days from R before it is worth
about C(R + w, w): nothing distribution-free can be worth more.

Promise: for one start the bets are an e-process, so it passes c with probability 1/c at most however long it is watched;
over all starts of n days and K series the chance is K·n/c at most (a union bound: valid under any dependence), so one
false alarm in N days for all series together is c = K·N.

Sources: Vovk, Nouretdinov & Gammerman, "Testing exchangeability on-line" (2003) for the ranks; Shin, Ramdas & Rinaldo,
"E-detectors" (2023) for starts and budgets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LATEST = 14
"""Starts that are looked at: what is not shown within so many days is a drift, not a jump."""

POOL = 56
"""Days before a start that it is compared with, at most."""

FEWEST = 21
"""Days with rows that the pool needs."""

SLACK = (0, 4)
"""Places below the top that the i-th new day may also take, one bet each."""

STAKE = 0.9
"""The share of the capital on the bet; the rest waits for better days."""


@dataclass(frozen=True)
class Jumps:
    """For every series: the log-evidence of its likeliest start, and the medians on both sides (NaN without any)."""

    log_evidence: Floats  # (series,)
    days: npt.NDArray[np.int64]  # from the likeliest start to the end
    before: Floats
    after: Floats


def log_threshold(series: int, days_per_false_alarm: float) -> float:
    """What a series must pass when so many are watched under one budget.

    >>> round(log_threshold(200, 730), 2)
    11.89
    """
    return float(np.log(max(1, series) * days_per_false_alarm))


def scan(values: Floats, *, both_ways: bool = True, fewest: int = FEWEST) -> Jumps:
    """Look for a jump (only upward unless `both_ways`) in each column of `values` (days, series); NaN: no rows.

    A start counts when the pool before it has `fewest` days with rows.

    >>> rng = np.random.default_rng(0)
    >>> calm = rng.exponential(1, (60, 1))
    >>> moved = calm + np.where(np.arange(60) >= 55, 9.0, 0.0)[:, None]
    >>> found = scan(np.hstack([calm, moved]))
    >>> (found.log_evidence > log_threshold(2, 730)).tolist(), int(found.days[1])
    ([False, True], 5)
    """
    days, series = values.shape
    best, start = np.full(series, -np.inf), np.zeros(series, dtype=np.int64)
    for width in range(1, min(LATEST, days - fewest) + 1):
        window = values[max(0, days - width - POOL) :]
        logs = _bet(window, width)
        if both_ways:
            logs = np.logaddexp(logs, _bet(-window, width)) - np.log(2.0)
        there = np.isfinite(window[:-width]).sum(axis=0) >= fewest
        better = there & np.isfinite(window[-width]) & (logs > best)
        best, start = np.where(better, logs, best), np.where(better, width, start)
    before, after = np.full(series, np.nan), np.full(series, np.nan)
    for width in np.unique(start[start > 0]):
        mine = (start == width) & (best > 0)
        before[mine] = _median(values[max(0, days - width - POOL) : days - width, mine])
        after[mine] = _median(values[days - width :, mine])
    return Jumps(best, start, before, after)


def _bet(window: Floats, width: int) -> Floats:
    """Log-capital after betting on high ranks of each of the last `width` days; ties count against the bet."""
    first = len(window) - width
    size = np.isfinite(window[:first]).sum(axis=0).astype(np.float64)
    taken = np.zeros_like(size)  # new days so far that have rows
    capital = np.ones((len(SLACK), len(size)))
    for index in range(first, len(window)):
        there = np.isfinite(window[index])
        rank = (window[:index] >= window[index]).sum(axis=0) + 1  # 1 is the highest; a tie is no win
        among = size + taken + 1
        for number, slack in enumerate(SLACK):
            places = np.minimum(taken + 1 + slack, among)
            wins = STAKE * among / places * (rank <= places) + (1 - STAKE)
            capital[number] *= np.where(there, wins, 1.0)
        taken += there
    return np.asarray(np.log(capital.mean(axis=0)), dtype=np.float64)


def _median(part: Floats) -> Floats:
    known = np.isfinite(part).any(axis=0)
    found = np.full(part.shape[1], np.nan)
    found[known] = np.nanmedian(part[:, known], axis=0)
    return found
