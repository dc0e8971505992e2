"""What training rows looked like: the reference that live rows are held against later.

Per feature: fixed bins with their shares, and the share of nulls. A number's bins are cut at its deciles (fewer where
values repeat), so a live row falls into bin `searchsorted(edges, value, side='left')`; a category's are its most
frequent values and one for all others. The size does not depend on the number of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from trueline.domain.contracts import Column, Kind
from trueline.packaging.signature import Signature
from trueline.pipelines.metrics import Floats, baseline

BINS = 10
CATEGORIES = 50


def summarise(
    frame: pl.DataFrame, signature: Signature, target: Floats, importance: dict[str, float] | None = None
) -> dict[str, Any]:
    """JSON values: rows, features (bins), presence (share of rows with a value), target, baseline."""
    features = {column.name: feature(frame[column.name], column) for column in signature.inputs}
    found: dict[str, Any] = {
        "rows": len(frame),
        "features": features,
        "presence": {name: 1.0 - one["null"] for name, one in features.items()},
        "target": _spread(target),
        "baseline": baseline(signature.task, target),
    }
    return found if importance is None else found | {"importance": importance}


def feature(values: pl.Series, column: Column) -> dict[str, Any]:
    """The bins of one feature."""
    rows = max(1, len(values))
    if column.kind in (Kind.string, Kind.boolean):
        present = values.drop_nulls()
        counts = present.cast(pl.String).value_counts(sort=True, name="rows").head(CATEGORIES)
        shares = [count / rows for count in counts["rows"].to_list()]
        other = len(present) / rows - sum(shares)
        return {
            "kind": "category",
            "categories": counts[values.name].to_list(),
            "shares": shares,
            "other": max(0.0, other),
            "null": (rows - len(present)) / rows if len(values) else 0.0,
        }
    numbers = values.cast(pl.Float64).fill_nan(None).drop_nulls().to_numpy()
    edges = np.unique(np.quantile(numbers, np.arange(1, BINS) / BINS)) if len(numbers) else np.array([])
    counted = np.bincount(np.searchsorted(edges, numbers, side="left"), minlength=len(edges) + 1)
    return {
        "kind": "number",
        "edges": edges.tolist(),
        "shares": (counted / rows).tolist(),
        "null": (len(values) - len(numbers)) / rows,
    }


def _spread(target: Floats) -> dict[str, float]:
    if not len(target):
        return {}
    low, middle, high = np.quantile(target, [0.05, 0.5, 0.95])
    return {
        "mean": float(target.mean()),
        "std": float(target.std()),
        "p05": float(low),
        "median": float(middle),
        "p95": float(high),
    }
