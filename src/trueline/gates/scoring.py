"""Scoring rows with a packaged model, and its losses by blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from trueline.domain.contracts import Contract, Kind
from trueline.domain.versions import Version
from trueline.packaging.executors import Executor
from trueline.stats.blocks import BlockPair

Floats = npt.NDArray[np.float64]

BLOCK = "_block"
PIECES = 20
"""Blocks that rows without a time are cut into, in their order."""


def with_blocks(frame: pl.DataFrame, time: str | None) -> pl.DataFrame:
    """The rows with the block of each: its event-time day, or, without a time, its piece of the order."""
    if time is None:
        pieces = (pl.int_range(pl.len()) * PIECES // pl.len()).cast(pl.String)
        return frame.with_columns(pieces.alias(BLOCK))
    return frame.with_columns(pl.col(time).dt.date().cast(pl.String).alias(BLOCK))


def predict(executor: Executor, frame: pl.DataFrame) -> Floats:
    columns: dict[str, list[Any]] = {name: frame[name].to_list() for name in executor.signature.names}
    return executor.predict(columns)


def target_of(frame: pl.DataFrame, contract: Contract) -> Floats:
    """The target as numbers; of two texts the later in order is the positive one, as scikit-learn orders classes."""
    values = frame[contract.target.name]
    if contract.target.kind is Kind.string:
        values = values == values.max()
    return values.cast(pl.Float64).to_numpy()


def row_losses(task: str, predicted: Floats, target: Floats) -> Floats:
    """Absolute error of a regression, Brier loss of a probability."""
    difference = predicted - target
    return np.asarray(np.abs(difference) if task == "regression" else difference**2, dtype=np.float64)


def losses(executor: Executor, frame: pl.DataFrame, contract: Contract, task: str) -> Floats:
    return row_losses(task, predict(executor, frame), target_of(frame, contract))


def constant_losses(version: Version, frame: pl.DataFrame, contract: Contract) -> Floats:
    """What predicting one constant for every row would lose: the training rows' median, or their rate."""
    baseline = version.summary["baseline"]
    constant = float(baseline["rate"] if version.task == "classification" else baseline["median"])
    return row_losses(version.task, np.full(frame.height, constant), target_of(frame, contract))


def pairs(frame: pl.DataFrame, mine: Floats, theirs: Floats) -> tuple[BlockPair, ...]:
    """Mean losses of two models on the same rows, block by block."""
    table = (
        pl.DataFrame({BLOCK: frame[BLOCK], "mine": mine, "theirs": theirs})
        .group_by(BLOCK)
        .agg(pl.len().alias("rows"), pl.col("mine").mean(), pl.col("theirs").mean())
        .sort(BLOCK)
    )
    return tuple(BlockPair(str(block), int(rows), float(a), float(b)) for block, rows, a, b in table.iter_rows())


def metric(name: str, executor: Executor, frame: pl.DataFrame, contract: Contract) -> float:
    """A declared metric over all rows."""
    predicted, target = predict(executor, frame), target_of(frame, contract)
    if name == "mae":
        return float(np.abs(predicted - target).mean())
    if name == "rmse":
        return float(np.sqrt(((predicted - target) ** 2).mean()))
    if name == "brier":
        return float(((predicted - target) ** 2).mean())
    if name == "accuracy":
        return float(((predicted >= 0.5) == (target >= 0.5)).mean())
    if name == "log_loss":
        clipped = np.clip(predicted, 1e-15, 1 - 1e-15)
        return float(-(target * np.log(clipped) + (1 - target) * np.log1p(-clipped)).mean())
    return _area(predicted, target)


def _area(predicted: Floats, target: Floats) -> float:
    """Area under the ROC curve, as the Mann-Whitney statistic with mid-ranks."""
    positive = target >= 0.5
    p, n = int(positive.sum()), int((~positive).sum())
    if not p or not n:
        return float("nan")
    ranks = pl.Series(predicted).rank("average").to_numpy()
    return float((ranks[positive].sum() - p * (p + 1) / 2) / (p * n))
