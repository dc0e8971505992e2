"""drift-cost: a million rows of 25 columns against a stored reference of fixed bins, beside bare NumPy counting."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import cpu
from figures import Figure, number, tell
from trueline.stats.drift import Bins, numeric_bins, stability_index

ROWS, COLUMNS = 1_000_000, 25
CHUNK = 65_536
Values = NDArray[np.float64]


def measure(*, quick: bool) -> Iterator[Figure]:
    size = 5_000 if quick else ROWS
    draw = np.random.default_rng(3)
    columns = [draw.normal(size=size) for _ in range(COLUMNS)]
    references = [numeric_bins(column[:10_000]) for column in columns]
    counts = [bins.count(column[:10_000]) for bins, column in zip(references, columns, strict=True)]
    equal = EqualWidths(columns[0][:10_000])

    def ours() -> None:
        for bins, reference, column in zip(references, counts, columns, strict=True):
            stability_index(reference, bins.count(column))

    def searching() -> None:
        for bins, column in zip(references, columns, strict=True):
            np.bincount(np.searchsorted(np.asarray(bins.edges), column), minlength=bins.size)

    def multiplying() -> None:
        for column in columns:
            equal.count(column)

    best = cpu.best_in_turns({"ours": ours, "search": searching, "equal": multiplying}, rounds=1 if quick else 2)
    claim = f"{size:,} rows × {COLUMNS} columns, stability index of each"
    taken = best["ours"]
    for what, against in (("search", "bare searchsorted"), ("equal", "bins of equal width")):
        shown = f"{against}, {number(best[what])} s"
        holds = None if quick or what == "equal" else taken <= 0.3
        target = None if what == "equal" else "≤ 0.3 s"
        yield Figure("drift-cost", claim, taken, "s CPU", shown, taken / best[what], target, holds)
    whole, tenth = (peak(references[0], columns[0][:rows]) for rows in (size, size // 10))
    yield Figure(
        "drift-cost",
        f"memory beyond a column's own {number(columns[0].nbytes / 2**20)} MiB",
        whole / 2**20,
        "MiB",
        f"a tenth of the rows, {number(tenth / 2**20)} MiB",
        whole / tenth,
        "not growing with rows",
        None if quick else whole < 2 * tenth,
    )


def peak(bins: Bins, values: Values) -> int:
    tracemalloc.start()
    bins.count(values)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


class EqualWidths:
    """The cheapest fixed bins: a multiplication per value and no search, in chunks that stay in the cache."""

    def __init__(self, reference: Values, bins: int = 10) -> None:
        self._bins = bins
        self._low = float(reference.min())
        self._scale = bins / (float(reference.max()) - self._low)

    def count(self, values: Values) -> NDArray[np.int64]:
        counts = np.zeros(self._bins, dtype=np.int64)
        for start in range(0, len(values), CHUNK):
            places = (values[start : start + CHUNK] - self._low) * self._scale
            np.clip(places, 0, self._bins - 1, out=places)
            counts += np.bincount(places.astype(np.int64), minlength=self._bins)
        return counts


if __name__ == "__main__":
    tell(measure, __doc__)
