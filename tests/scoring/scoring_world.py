"""Scoring in this process, as the command does it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from trueline.packaging.executors import load
from trueline.scoring import inputs, outputs
from trueline.scoring.score import BadRows, Scoring


def score(
    model: Path, source: Path | str, output: Path | str, *, bad_rows: str = "fail", version=None, keep=None
) -> Scoring:
    """Score a file; what is found on the way is kept in the answer."""
    files = inputs.files_of(str(source))
    outputs.check(str(output), str(source), files, overwrite=True)
    scoring = Scoring(load(model, None), version=version, bad_rows=BadRows(bad_rows), keep=keep)
    outputs.write(str(output), scoring.outputs(inputs.pieces(files, scoring.wanted)))
    return scoring


def scored(model: Path, source: Path, output: Path, **options) -> pl.DataFrame:
    score(model, source, output, **options)
    return pl.read_parquet(output, glob=False)


def summary(text: str):
    return json.loads(text)
