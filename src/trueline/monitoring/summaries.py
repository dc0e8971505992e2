"""One event-time day, reduced: what its predictions lost once their labels came.

Everything here is a sum over rows or a mean with its count, so days of many replicas merge, and a block's evidence is
a few hundred numbers however much traffic it had. Each version that scored a row, as the answer or in shadow, is
compared with each other version on the very same rows.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from trueline.domain.routes import Arm

ANSWERED = "answered"


def joined(predictions: pl.DataFrame, labels: pl.DataFrame, task: str) -> pl.DataFrame:
    """Every labelled score of the day: prediction_id, version, arm, weight, unit, release, served, loss.

    The loss of one row is the absolute error of a regression, or the Brier loss of a probability. A fallback's answer
    is a score of the version that gave it; `served` marks what the client was told.
    """
    truth = labels.select("prediction_id", pl.col("value").alias("label"))
    scores = predictions.filter(pl.col("prediction").is_not_null()).join(truth, on="prediction_id", how="inner")
    difference = pl.col("prediction") - pl.col("label")
    loss = difference.abs() if task == "regression" else difference**2
    scored_by = pl.when(pl.col("outcome") == ANSWERED).then(pl.col("version")).otherwise(pl.col("answered_by"))
    return (
        scores.with_columns(
            loss.alias("loss"), scored_by.alias("scored_by"), (pl.col("arm") != Arm.shadow).alias("served")
        )
        .filter(pl.col("scored_by").is_not_null() & pl.col("loss").is_finite())
        .sort("event_us", "prediction_id", "scored_by")
        .select(
            "prediction_id", "event_us", "scored_by", "version", "arm", "weight", "unit", "release", "served", "loss"
        )
    )


def beside(prediction_ids: pl.Series, version: int, values: np.ndarray[Any, Any]) -> pl.DataFrame:
    """Losses of a version that was asked afterwards, in the form of `joined`."""
    scored = pl.DataFrame({"prediction_id": prediction_ids, "loss": pl.Series(values, dtype=pl.Float64)})
    return scored.filter(pl.col("loss").is_finite()).with_columns(
        scored_by=pl.lit(version, dtype=pl.Int64), served=pl.lit(value=False)
    )


def losses(scores: pl.DataFrame, asked: Collection[int] = ()) -> dict[str, Any]:
    """Mean loss of what was served, of each version, and paired between each two versions.

    Versions that were only `asked` afterwards are not paired with one another: nobody chooses between them.
    """
    served = scores.filter("served")
    wide = scores.unique(["prediction_id", "scored_by"], keep="first", maintain_order=True).pivot(
        on="scored_by", index="prediction_id", values="loss", maintain_order=True
    )
    columns = {int(name): wide[name].to_numpy() for name in wide.columns if name != "prediction_id"}
    versions = {
        str(version): {"n": int(np.isfinite(values).sum()), "loss": float(np.nanmean(values))}
        for version, values in sorted(columns.items())
    }
    return {
        "served": {"n": served.height, "loss": _mean(served["loss"])},
        "versions": versions,
        "pairs": [
            _pair(first, second, columns)
            for first, second in combinations(sorted(columns), 2)
            if not (first in asked and second in asked)
        ],
    }


def _pair(first: int, second: int, columns: dict[int, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Mean of (first − second) over the rows that both scored, with the two means there."""
    both = np.isfinite(columns[first]) & np.isfinite(columns[second])
    count = int(both.sum())
    means = [float(columns[version][both].mean()) if count else None for version in (first, second)]
    return {"a": first, "b": second, "n": count, "loss_a": means[0], "loss_b": means[1]}


def coverage(predictions: pl.DataFrame, counts: dict[str, int], labelled: int) -> dict[str, int]:
    """How much of the day's answers has a label, and what came besides."""
    answers = predictions.filter(pl.col("arm") != Arm.shadow).height
    return {"predictions": answers, "labelled": labelled, **counts}


def _mean(values: pl.Series) -> float | None:
    mean = values.mean()
    return float(mean) if isinstance(mean, (int, float)) else None
