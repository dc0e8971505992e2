"""One event-time day as slices see it: a handful of sums for each slice and feature, however much traffic there was.

A slice is one value of one categorical feature (`carrier=UA`), or all rows. What is kept of a feature in a slice adds up
over replicas and days: rows, rows with a value, sum, sum of squares, rows that break the contract's range or categories,
rows that hold the slice's most frequent value, and the smallest and largest number. What is kept of the losses: labelled rows and their sum, of what was
served and of each version that scored them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from trueline.domain.contracts import NUMBERS, Column, Kind, compile_doubts

ALL = "all"
SERVED = "served"

FEWEST_ROWS = 4
"""Rows of a day below which a slice says nothing that day."""

MOST_VALUES = 20
"""Values of one column that are watched, by rows of the day."""

CATEGORICAL = frozenset({Kind.string, Kind.boolean})

Profile = dict[str, Any]
"""{slice: {"rows", "loss": {who: [rows, sum]}, "features": {name: [rows, present, sum, squares, outside, repeated, low, high]}}}"""

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def profile(rows: pl.DataFrame, columns: Sequence[Column], losses: Mapping[str, Floats]) -> Profile:
    """The day's answered rows with features typed by the contract, and losses beside them (NaN: not labelled)."""
    features = {column.name: _Feature(rows[column.name], column) for column in columns}
    known = {who: (np.isfinite(values), np.nan_to_num(values)) for who, values in losses.items()}
    return {
        name: {
            "rows": int(mine.sum()),
            "loss": {
                who: [int((there & mine).sum()), float(values[there & mine].sum())]
                for who, (there, values) in known.items()
            },
            "features": {
                column.name: features[column.name].sums(mine)
                for column in columns
                if not name.startswith(f"{column.name}=")
            },
        }
        for name, mine in slices(rows, columns)
    }


def slices(rows: pl.DataFrame, columns: Sequence[Column]) -> Iterator[tuple[str, Mask]]:
    """Name and mask of every slice with enough rows, all rows first."""
    yield ALL, np.ones(rows.height, dtype=bool)
    for column in columns:
        if column.kind not in CATEGORICAL:
            continue
        texts = rows[column.name].cast(pl.String).to_numpy()
        values, codes = np.unique(
            np.where(rows[column.name].is_null().to_numpy(), "", texts).astype(str), return_inverse=True
        )
        counts = np.bincount(codes)
        for place in np.argsort(-counts, kind="stable")[:MOST_VALUES].tolist():
            if counts[place] >= FEWEST_ROWS and values[place]:
                yield f"{column.name}={values[place]}", codes == place


def members(rows: pl.DataFrame, name: str) -> Mask:
    """Which rows belong to a slice, by its name."""
    if name == ALL:
        return np.ones(rows.height, dtype=bool)
    column, _, value = name.partition("=")
    return (rows[column].cast(pl.String) == value).fill_null(value=False).to_numpy()


class _Feature:
    """One feature of a day, taken apart once for all slices."""

    def __init__(self, values: pl.Series, column: Column) -> None:
        doubt = compile_doubts(column)
        self.present: Mask = values.is_not_null().to_numpy()
        self._outside = np.fromiter(
            (value is not None and doubt(value) is not None for value in values.to_list()),
            dtype=bool,
            count=len(values),
        )
        numeric = column.kind in NUMBERS
        self._numbers: Floats = (
            values.cast(pl.Float64).fill_null(0.0).to_numpy() if numeric else np.zeros(len(values), dtype=np.float64)
        )
        self._codes = values.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()

    def sums(self, mine: Mask) -> list[float | None]:
        known = mine & self.present
        numbers = self._numbers[known]
        repeated = int(np.bincount(self._codes[known]).max()) if known.any() else 0
        return [
            int(mine.sum()),
            int(known.sum()),
            float(numbers.sum()),
            float((numbers**2).sum()),
            int((self._outside & known).sum()),
            repeated,
            float(numbers.min()) if len(numbers) else None,
            float(numbers.max()) if len(numbers) else None,
        ]
