"""Batch scoring: rows per CPU second from a Parquet file to another, beside the executor alone on arrays in memory.

Gradient boosting of 100 iterations over thirty floats, and a linear model, for which reading, checking and writing are all there
is. What is paid beside the executor: Parquet both ways, the contract over thirty columns, and the hand-over.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

import cpu
from figures import Figure, number, tell
from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.packaging.build import package
from trueline.packaging.executors import load
from trueline.scoring import inputs, outputs
from trueline.scoring.score import BadRows, Scoring

WIDTH = 30
NAMES = [f"f{number:02}" for number in range(WIDTH)]
CONTRACT = Contract(
    (
        *(Column(name, Kind.float32, minimum=-9.0, maximum=9.0) for name in NAMES),
        Column("y", Kind.float64, role=Role.target),
    )
)


def frame_of(rows: int, seed: int) -> pl.DataFrame:
    values = np.random.default_rng(seed).normal(size=(rows, WIDTH)).clip(-8, 8).astype(np.float32)
    frame = pl.DataFrame(values, schema=NAMES)
    return frame.with_columns((pl.col("f00") * 3 + pl.col("f01").sin()).cast(pl.Float64).alias("y"))


def measure(*, quick: bool) -> Iterator[Figure]:
    rows = 5_000 if quick else 200_000
    train = frame_of(4_000, 1)
    models: dict[str, Any] = {
        "gradient boosting": HistGradientBoostingRegressor(max_iter=10 if quick else 100),
        "a linear model": LinearRegression(),
    }
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as folder:
        place = Path(folder)
        frame_of(rows, 2).drop("y").write_parquet(place / "in.parquet")
        for about, estimator in models.items():
            fitted = estimator.fit(train.select(NAMES), train["y"])
            made = package(
                fitted,
                rows=train,
                contract=CONTRACT,
                task="regression",
                folder=place / about.replace(" ", "-"),
                created=datetime(2026, 1, 1, tzinfo=UTC),
            )
            yield _figure(about, made.folder, place, rows, rounds=1 if quick else 3)


def _figure(about: str, model: Path, place: Path, rows: int, rounds: int) -> Figure:
    executor = load(model, None)
    output = str(place / "out.parquet")
    frame = pl.read_parquet(place / "in.parquet")
    columns = {name: frame[name].to_numpy() for name in NAMES}

    def ours() -> None:
        scoring = Scoring(executor, version=1, bad_rows=BadRows.fail, keep=None)
        outputs.write(
            output, scoring.outputs(inputs.pieces(inputs.files_of(str(place / "in.parquet")), scoring.wanted))
        )
        assert scoring.tally.rows == rows

    def bare() -> None:
        for start in range(0, rows, inputs.PIECE_ROWS):
            executor.predict({name: values[start : start + inputs.PIECE_ROWS] for name, values in columns.items()})

    seconds = cpu.best_in_turns({"ours": ours, "bare": bare}, rounds)
    return Figure(
        id=None,
        claim=f"{about}: Parquet to Parquet, contract checked, {rows:,} rows",
        value=rows / seconds["ours"],
        unit="rows/CPU s",
        against=f"its executor alone, {number(rows / seconds['bare'])} rows/CPU s",
        ratio=seconds["bare"] / seconds["ours"],
    )


if __name__ == "__main__":
    tell(measure, __doc__)
