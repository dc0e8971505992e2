"""drift-cost: a million rows of 25 columns against a stored reference of fixed bins, beside bare NumPy counting."""

from __future__ import annotations

import numpy as np

from figures import Figure, best_cpu, tell
from trueline.stats.drift import Bins, numeric_bins, stability_index

ROWS, COLUMNS = 1_000_000, 25


def measure() -> list[Figure]:
    draw = np.random.default_rng(3)
    columns = [draw.normal(size=ROWS) for _ in range(COLUMNS)]
    references = [numeric_bins(column[:10_000]) for column in columns]
    counts = [bins.count(column[:10_000]) for bins, column in zip(references, columns, strict=True)]

    def ours() -> None:
        for bins, reference, column in zip(references, counts, columns, strict=True):
            stability_index(reference, bins.count(column))

    def bare() -> None:
        for bins, column in zip(references, columns, strict=True):
            _bare(bins, column)

    taken, limit = best_cpu(ours, times=1), best_cpu(bare, times=2)
    claim = f"{ROWS:,} rows × {COLUMNS} columns, stability index of each, CPU"
    return [
        Figure(
            "drift-cost", claim, taken, "s", f"bare searchsorted, {limit:.2f} s", taken / limit, "≤ 0.3 s", taken <= 0.3
        )
    ]


def _bare(bins: Bins, column: np.ndarray) -> None:
    np.bincount(np.searchsorted(np.asarray(bins.edges), column), minlength=bins.size)


if __name__ == "__main__":
    tell(measure, __doc__)
