from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.pipelines.execute import Trainer
from trueline.pipelines.spec import TrainSpec

CONTRACT = Contract(
    (
        Column("wait", Kind.float32),
        Column("hour", Kind.integer),
        Column("carrier", Kind.string, categories=("A", "B", "C")),
        Column("minutes", Kind.float64, nullable=True, role=Role.target),
    )
)

FIT = """
from features import COLUMNS
from sklearn.ensemble import HistGradientBoostingRegressor


def fit(frame, rounds=20):
    print("fitting", len(frame), "rows")
    model = HistGradientBoostingRegressor(max_iter=rounds, categorical_features=["carrier"])
    return model.fit(frame.select(COLUMNS), frame["minutes"])
"""


def make_frame(count: int = 400, seed: int = 0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "wait": draw.gamma(2, 10, count),
            "hour": draw.integers(0, 24, count),
            "carrier": draw.choice(list("ABC"), count),
        }
    )
    minutes = frame["wait"].to_numpy() + frame["hour"].to_numpy() * 2.0 + draw.normal(size=count)
    return frame.with_columns(pl.Series("minutes", minutes))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "model.py").write_text(FIT)
    (root / "features.py").write_text('COLUMNS = ["wait", "hour", "carrier"]\n')
    return root


@pytest.fixture(scope="session")
def trainer() -> Iterator[Trainer]:
    with Trainer() as trainer:
        yield trainer


@pytest.fixture
def spec(project: Path, tmp_path: Path) -> TrainSpec:
    make_frame().write_ipc(tmp_path / "rows.arrow")
    make_frame(100, seed=1).write_ipc(tmp_path / "held_out.arrow")
    return TrainSpec(
        project=project,
        entry="model.py:fit",
        params={"rounds": 10},
        rows=tmp_path / "rows.arrow",
        held_out=tmp_path / "held_out.arrow",
        contract=CONTRACT,
        task="regression",
        folder=tmp_path / "runs" / "run-1",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        timeout=60,
    )


@pytest.fixture
def with_code(spec: TrainSpec) -> Any:
    """A spec whose fit has this body."""

    def with_code(code: str, **changes: Any) -> TrainSpec:
        (spec.project / "model.py").write_text(code)
        return replace(spec, **({"params": {}} | changes))

    return with_code
