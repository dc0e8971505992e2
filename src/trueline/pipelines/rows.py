"""The rows of a run as its processes read them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from trueline.domain.contracts import Contract, Kind

FLOATS = {Kind.float32: pl.Float32, Kind.float64: pl.Float64}


def read_rows(path: Path, contract: Contract) -> pl.DataFrame:
    """The rows, with float columns in the precision that the contract promises to requests too."""
    frame = pl.read_ipc(path)
    return frame.with_columns(
        pl.col(column.name).cast(FLOATS[column.kind])
        for column in contract.columns
        if column.kind in FLOATS and column.name in frame.columns
    )
