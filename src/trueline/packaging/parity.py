"""The parity proof: a packaged model against the fitted estimator, on held-out and on edge rows.

On probabilities the difference is absolute. On values it is relative, to the value itself or, for values near zero, to
the typical size of the estimator's held-out predictions (a float32 sum cannot be relative to nothing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trueline.errors import PackagingFailed
from trueline.packaging.edges import EdgeRows
from trueline.packaging.executors import Executor
from trueline.packaging.feeds import Columns
from trueline.packaging.signature import CLASSIFICATION

TOLERANCE = 1e-5  # DESIGN: absolute on probabilities, relative otherwise, no exceptions

Predict = Callable[[Columns], NDArray[np.float64]]


@dataclass(frozen=True)
class Proof:
    """What the estimator itself says about each group of rows, to hold any number of executors against."""

    task: str
    scale: float
    groups: tuple[tuple[str, Columns, NDArray[np.float64]], ...]
    skipped: tuple[str, ...]

    @property
    def rows(self) -> int:
        return sum(len(expected) for _, _, expected in self.groups)


@dataclass(frozen=True)
class Worst:
    difference: float
    where: str

    @property
    def holds(self) -> bool:
        return self.difference <= TOLERANCE


def prepare(predict: Predict, task: str, held_out: pl.DataFrame, edges: Iterable[EdgeRows]) -> Proof:
    """Ask the estimator once; edge rows it refuses itself are skipped, with a sentence."""
    columns = as_columns(held_out)
    expected = predict(columns)
    if not np.isfinite(expected).all():
        raise PackagingFailed(
            "the estimator predicts NaN or infinity on held-out rows; make fit return one that does not"
        )
    groups = [("held-out rows", columns, expected)]
    skipped = []
    for edge in edges:
        columns = as_columns(edge.frame)
        try:
            said = predict(columns)
        except Exception as problem:  # noqa: BLE001  any estimator, any objection
            skipped.append(f"{edge.about}: the estimator itself refuses it ({type(problem).__name__})")
            continue
        if np.isfinite(said).all():
            groups.append((edge.about, columns, said))
        else:
            skipped.append(f"{edge.about}: the estimator itself answers NaN or infinity")
    scale = float(np.median(np.abs(expected))) or float(np.abs(expected).max()) or 1.0
    return Proof(task, scale, tuple(groups), tuple(skipped))


def check(proof: Proof, executor: Executor) -> Worst:
    """The largest difference of an executor, and on which rows."""
    worst = Worst(0.0, "held-out rows")
    for about, columns, expected in proof.groups:
        found = executor.predict(columns)
        if found.shape != expected.shape or not np.isfinite(found).all():
            return Worst(float("inf"), about)
        gap = np.abs(found - expected)
        if proof.task != CLASSIFICATION:
            gap = gap / np.maximum(np.abs(expected), proof.scale)
        if (largest := float(gap.max(initial=0.0))) > worst.difference:
            worst = Worst(largest, about)
    return worst


def as_columns(frame: pl.DataFrame) -> dict[str, Any]:
    """A frame's columns as an executor takes them: arrays where they are numbers without nulls, else lists."""
    return {
        column.name: column.to_numpy() if column.dtype.is_numeric() and column.null_count() == 0 else column.to_list()
        for column in frame
    }
