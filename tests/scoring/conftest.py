"""Packaged models of several executors, and the commands that score with them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.packaging.build import package

sys.path += [
    str(Path(__file__).parent),
    str(Path(__file__).parents[1] / "serving"),
]  # tests are not a package, and importlib mode adds no paths

from scoring_world import CARRIERS, make_rows

CONTRACT = Contract(
    (
        Column("wait", Kind.float32, minimum=0.0, maximum=100.0),
        Column("wind", Kind.float32, nullable=True),
        Column("exact", Kind.float64),
        Column("hour", Kind.integer, minimum=0, maximum=23, strict=True),
        Column("stops", Kind.integer, nullable=True),
        Column("carrier", Kind.string, categories=CARRIERS),
        Column("flight", Kind.string, role=Role.entity),
        Column("minutes", Kind.float64, role=Role.target),
    )
)
NUMBERS = ["wait", "wind", "exact", "hour", "stops"]


def _boosting(frame: pl.DataFrame):
    return HistGradientBoostingRegressor(max_iter=20).fit(frame.select(NUMBERS), frame["minutes"])


def _strings(frame: pl.DataFrame):
    words = ColumnTransformer([("c", OneHotEncoder(handle_unknown="ignore"), ["carrier"])], remainder="passthrough")
    inputs = frame.select("wait", "exact", "hour", "carrier")
    return make_pipeline(words, LinearRegression()).fit(inputs, frame["minutes"])


def _native(frame: pl.DataFrame):
    return KNeighborsRegressor(3, weights="distance").fit(frame.select("wait", "hour"), frame["minutes"])


FITS = {"boosting": _boosting, "strings": _strings, "native": _native}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """`models(name)`: the folder of a packaged model."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            frame = make_rows(400)
            folder = tmp_path_factory.mktemp(name) / "model"
            created = datetime(2026, 1, 1, tzinfo=UTC)
            package(FITS[name](frame), rows=frame, contract=CONTRACT, task="regression", folder=folder, created=created)
            made[name] = folder
        return made[name]

    return get


@pytest.fixture
def frame() -> pl.DataFrame:
    return make_rows(50, seed=5)
