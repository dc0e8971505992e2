"""Rows where converted models go wrong: on split thresholds and a hair beside, at extremes, with nulls, unseen words.

Held-out rows seldom lie there, so a converter that sends them down the wrong branch would pass unnoticed. Each group is
made of held-out rows with one column replaced, so that the other columns stay plausible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trueline.domain.contracts import Column, Kind
from trueline.packaging import boosters, boosting
from trueline.packaging.native import DTYPES
from trueline.packaging.trees import floor_to_float32, sklearn_thresholds

UNSEEN = "(a category never seen)"
ROWS_PER_COLUMN = 1500
ROWS_OF_THRESHOLDS = 12_000


@dataclass(frozen=True)
class EdgeRows:
    about: str
    frame: pl.DataFrame


def edge_rows(estimator: Any, inputs: Sequence[Column], rows: pl.DataFrame) -> Iterator[EdgeRows]:
    """Groups of edge rows; `rows` are held-out rows with exactly the inputs, in order."""
    thresholds = split_points(estimator, [column.name for column in inputs])
    share = max(30, min(ROWS_PER_COLUMN, ROWS_OF_THRESHOLDS // max(1, len(thresholds))))
    for column in inputs:
        if column.kind in (Kind.integer, Kind.float32, Kind.float64):
            if (points := thresholds.get(column.name)) is not None:
                values = _beside(points[_spread(len(points), share // 3)], column.kind)
                yield EdgeRows(f"split thresholds of '{column.name}'", _replaced(rows, column, values))
            yield EdgeRows(
                f"extremes of '{column.name}'", _replaced(rows, column, _extremes(rows[column.name], column))
            )
        if column.kind is Kind.string and not (column.strict and column.categories):
            yield EdgeRows(f"an unseen category in '{column.name}'", _replaced(rows, column, [UNSEEN] * 8))
        if column.nullable:
            yield EdgeRows(f"a null in '{column.name}'", _replaced(rows, column, [None] * 16))
    nullable = [column for column in inputs if column.nullable]
    if len(nullable) > 1:
        frame = rows.head(8)
        for column in nullable:
            frame = frame.with_columns(pl.lit(None, dtype=frame[column.name].dtype).alias(column.name))
        yield EdgeRows("nulls in every column that may have one", frame)


def split_points(estimator: Any, names: Sequence[str]) -> Mapping[str, NDArray[np.float64]]:
    """Split thresholds by input column, as far as they can be read through the pipeline."""
    steps = [step for _, step in getattr(estimator, "steps", [])] or [estimator]
    try:
        trees = boosting.ensemble(steps[-1])
    except boosters.Unsayable:
        return {}
    thresholds = sklearn_thresholds(steps[-1]) if trees is None else trees.thresholds()
    if not thresholds:
        return {}
    columns = _columns_of_features(steps, names)
    found: dict[str, NDArray[np.float64]] = {}
    for feature, values in thresholds.items():
        if feature in columns:
            name, scale, shift = columns[feature]
            found[name] = values * scale + shift
    return found


def _columns_of_features(steps: Sequence[Any], names: Sequence[str]) -> dict[int, tuple[str, float, float]]:
    """For each feature of the last step: the input column it is, and how to scale back to it."""
    last = steps[-1]
    if len(steps) == 1:
        categorical = getattr(last, "is_categorical_", None)
        if categorical is None:
            order = list(range(len(names)))
        else:  # its encoder puts categories first
            order = [*np.flatnonzero(categorical), *np.flatnonzero(~categorical)]
        return {feature: (names[index], 1.0, 0.0) for feature, index in enumerate(order)}
    if len(steps) > 2:
        return {}
    (first, _) = steps
    if hasattr(first, "output_indices_"):
        return dict(_through_columns(first))
    if getattr(first, "scale_", None) is not None and getattr(first, "mean_", None) is not None:
        return {
            index: (name, float(scale), float(mean))
            for index, (name, scale, mean) in enumerate(zip(names, first.scale_, first.mean_, strict=True))
        }
    return {}


def _through_columns(transformer: Any) -> Iterator[tuple[int, tuple[str, float, float]]]:
    given = list(transformer.feature_names_in_)
    for label, step, columns in transformer.transformers_:
        passes = step == "passthrough" or (type(step).__name__ == "FunctionTransformer" and step.func is None)
        if not passes:
            continue
        places = range(*transformer.output_indices_[label].indices(10**9))
        chosen = given[columns] if isinstance(columns, slice) else np.atleast_1d(columns).tolist()
        for place, column in zip(places, chosen, strict=False):
            yield place, (column if isinstance(column, str) else given[column], 1.0, 0.0)


def _beside(thresholds: NDArray[np.float64], kind: Kind) -> list[Any]:
    """Each threshold and its neighbours in the column's own type."""
    thresholds = thresholds[~np.isnan(thresholds)]
    if kind is Kind.integer:
        whole = np.floor(np.clip(thresholds, -(2.0**53), 2.0**53)).astype(np.int64)
        return list(np.concatenate([whole, whole + 1]).tolist())
    points = floor_to_float32(thresholds) if kind is Kind.float32 else thresholds
    points = points[np.isfinite(points)]
    infinity = points.dtype.type(np.inf)
    with np.errstate(over="ignore"):  # LightGBM splits what is missing from what is not at the largest number
        beside = np.concatenate([np.nextafter(points, -infinity), points, np.nextafter(points, infinity)])
    return list(beside[np.isfinite(beside)].tolist())


def _extremes(values: pl.Series, column: Column) -> list[Any]:
    """The smallest and largest seen and allowed, and as far again beyond."""
    known: list[Any] = [values.min(), values.max(), column.minimum, column.maximum]
    seen = [float(value) for value in known if value is not None]
    if not seen:
        return [0]
    low, high = min(seen), max(seen)
    far = [*seen, 0.0, low - (high - low), high + (high - low)]
    return [int(max(-(2.0**62), min(2.0**62, value))) for value in far] if column.kind is Kind.integer else far


def _replaced(rows: pl.DataFrame, column: Column, values: Sequence[Any]) -> pl.DataFrame:
    places = _spread(len(rows), len(values)) if len(values) <= len(rows) else np.arange(len(values)) % len(rows)
    picked: pl.DataFrame = rows[places.tolist()]
    return picked.with_columns(pl.Series(column.name, values, dtype=DTYPES[column.kind]))


def _spread(available: int, wanted: int) -> NDArray[np.int64]:
    """At most `wanted` positions, evenly over what there is."""
    return np.unique(np.linspace(0, available - 1, min(available, wanted)).astype(np.int64))
