"""Drift of 1M rows × 25 columns against a stored reference, beside bare NumPy with fixed bins of equal width."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator

import cpu
import measurement
import numpy as np
from measurement import Measurement
from numpy.typing import NDArray

from trueline.stats import drift
from trueline.stats.drift import Bins

COLUMNS = 25
CHUNK = 65_536
Values = NDArray[np.float64]


def measure(quick: bool) -> Iterator[Measurement]:
    rows = 5_000 if quick else 1_000_000
    draw = np.random.default_rng(5)
    reference = draw.normal(size=20_000)
    current = draw.normal(0.1, 1, size=(COLUMNS, rows))
    bins = drift.numeric_bins(reference)
    counts = bins.count(reference)
    before = Limit(reference)

    def ours() -> list[float]:
        return [drift.stability_index(counts, bins.count(column)) for column in current]

    def bare() -> list[float]:
        return [before.index(column) for column in current]

    seconds = cpu.best_in_turns({"ours": ours, "bare": bare}, rounds=1 if quick else 2)
    yield Measurement(
        claim=f"stability index of {rows:,} rows × {COLUMNS} columns",
        value=seconds["ours"],
        unit="s CPU",
        against=f"fixed bins in bare NumPy, {measurement.number(seconds['bare'])} s",
        ratio=seconds["ours"] / seconds["bare"],
        target="≤ 0.3 s",
        holds=None if quick else seconds["ours"] <= 0.3,
        id="drift-cost",
    )
    fewer = peak(bins, current[0][: rows // 10])
    whole = peak(bins, current[0])
    yield Measurement(
        claim=f"memory beyond one column's own {current[0].nbytes / 2**20:.1f} MiB",
        value=whole / 2**20,
        unit="MiB",
        against=f"a tenth of the rows, {measurement.number(fewer / 2**20)} MiB",
        ratio=whole / fewer,
        target="not growing with rows",
        holds=None if quick else whole < 2 * fewer,
        id="drift-cost",
    )


def peak(bins: Bins, values: Values) -> int:
    tracemalloc.start()
    bins.count(values)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


class Limit:
    """Equal widths need a multiplication per value and no search; chunks stay in the cache."""

    def __init__(self, reference: Values, bins: int = 10) -> None:
        self._bins = bins
        self._low = float(reference.min())
        self._scale = bins / (float(reference.max()) - self._low)
        self._counts = self._count(reference)

    def index(self, values: Values) -> float:
        p, q = self._counts + 0.5, self._count(values) + 0.5
        p, q = p / p.sum(), q / q.sum()
        return float(((q - p) * np.log(q / p)).sum())

    def _count(self, values: Values) -> NDArray[np.int64]:
        counts = np.zeros(self._bins, dtype=np.int64)
        for start in range(0, len(values), CHUNK):
            places = (values[start : start + CHUNK] - self._low) * self._scale
            np.clip(places, 0, self._bins - 1, out=places)
            counts += np.bincount(places.astype(np.int64), minlength=self._bins)
        return counts


if __name__ == "__main__":
    sys.exit(measurement.script(__doc__, measure))
