"""Rows of every kind a contract knows, and a target that depends on all of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.packaging.build import Packaged, package

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths

CARRIERS = tuple("ABCDEFGH")
CREATED = datetime(2026, 1, 1, tzinfo=UTC)

CONTRACT = Contract(
    (
        Column("distance", Kind.float32),
        Column("wait", Kind.float32),
        Column("hour", Kind.integer),
        Column("exact", Kind.float64),
        Column("wind", Kind.float32, nullable=True),
        Column("stops", Kind.integer, nullable=True),
        Column("carrier", Kind.string, categories=CARRIERS),
        Column("gate", Kind.string, nullable=True),
        Column("night", Kind.boolean),
        Column("scheduled", Kind.datetime, role=Role.time),
        Column("minutes", Kind.float64, role=Role.target),
    )
)


@dataclass(frozen=True)
class Rows:
    frame: pl.DataFrame
    minutes: np.ndarray[Any, Any]
    late: np.ndarray[Any, Any]


@cache
def make_rows(count: int = 800) -> Rows:
    draw = np.random.default_rng(7)

    def holes(values: pl.Series, share: float) -> pl.Series:
        return pl.select(pl.when(pl.Series(draw.random(count) < share)).then(None).otherwise(values)).to_series()

    frame = pl.DataFrame(
        {
            "distance": pl.Series(draw.normal(100, 30, count)).cast(pl.Float32),
            "wait": pl.Series(draw.gamma(2, 10, count)).cast(pl.Float32),
            "hour": draw.integers(0, 24, count),
            "exact": draw.normal(size=count),
            "wind": holes(pl.Series(draw.normal(size=count)).cast(pl.Float32), 0.1),
            "stops": holes(pl.Series(draw.integers(0, 4, count)), 0.1),
            "carrier": draw.choice(CARRIERS, count),
            "gate": holes(pl.Series(draw.choice([f"g{number}" for number in range(40)], count)), 0.1),
            "night": draw.random(count) < 0.3,
            "scheduled": [CREATED] * count,
        }
    ).with_columns(pl.col("scheduled").cast(pl.Datetime("us")))
    minutes = (
        frame["distance"].to_numpy()
        + frame["wait"].to_numpy() * 0.3
        + frame["hour"].to_numpy() * 2.0
        + frame["wind"].fill_null(4).to_numpy() * 5
        + np.array([ord(carrier) % 5 * 4 for carrier in frame["carrier"]])
        + np.array([0 if gate is None else int(gate[1:]) % 7 * 3 for gate in frame["gate"]])
        + draw.normal(size=count)
    )
    return Rows(frame.with_columns(pl.Series("minutes", minutes)), minutes, (minutes > np.median(minutes)).astype(int))


@pytest.fixture(scope="session")
def rows() -> Rows:
    return make_rows()


@pytest.fixture
def pack(tmp_path: Path, rows: Rows) -> Any:
    def pack(estimator: Any, task: str = "regression", **changes: Any) -> Packaged:
        given = {
            "rows": rows.frame,
            "contract": CONTRACT,
            "task": task,
            "folder": tmp_path / "model",
            "created": CREATED,
        }
        return package(estimator, **(given | changes))

    return pack
