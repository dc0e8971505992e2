"""Rows, and scoring in this process as the command does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from trueline.packaging.executors import load
from trueline.scoring import inputs, outputs
from trueline.scoring.score import BadRows, Scoring

CARRIERS = ("A", "B", "C")


def make_rows(count: int, seed: int = 3) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    wind, stops = draw.normal(size=count), draw.integers(0, 4, count)
    return pl.DataFrame(
        {
            "wait": pl.Series(draw.gamma(2, 10, count).clip(0, 100), dtype=pl.Float32),
            "wind": pl.Series([None if draw.random() < 0.1 else one for one in wind], dtype=pl.Float32),
            "exact": draw.normal(size=count),
            "hour": draw.integers(0, 24, count),
            "stops": pl.Series([None if one == 3 else int(one) for one in stops], dtype=pl.Int64),
            "carrier": draw.choice(CARRIERS, count),
            "flight": [f"f{number}" for number in range(count)],
        }
    ).with_columns((pl.col("wait") + pl.col("hour") * 2 + pl.col("exact").sin()).cast(pl.Float64).alias("minutes"))


def score(
    model: Path, source: Path | str, output: Path | str, *, bad_rows: str = "fail", version=None, keep=None
) -> Scoring:
    """Score a file; what is found on the way is kept in the answer."""
    files = inputs.files_of(str(source))
    outputs.check(str(output), str(source), files, overwrite=True)
    scoring = Scoring(load(model, None), version=version, bad_rows=BadRows(bad_rows), keep=keep)
    outputs.write(str(output), scoring.outputs(inputs.pieces(files, scoring.wanted, scoring.own)))
    return scoring


def scored(model: Path, source: Path, output: Path, **options) -> pl.DataFrame:
    score(model, source, output, **options)
    return pl.read_parquet(output, glob=False)
