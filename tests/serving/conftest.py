"""A real server on loopback, in a thread of its own; what tests do with it is in serving_world.py."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.domain.routes import RouteTable
from trueline.packaging import build
from trueline.serving.limits import Limits
from trueline.serving.server import Config
from trueline.settings import StateFolder

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths

from serving_world import Fake, Running

CONTRACT = Contract((Column("a", Kind.float32), Column("b", Kind.float32), Column("y", Kind.float32, role=Role.target)))


@pytest.fixture(scope="session")
def packaged(tmp_path_factory):
    """Two linear models as ONNX and one that only scikit-learn itself can run."""
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.linear_model import LinearRegression

    folder = tmp_path_factory.mktemp("models")
    values = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
    rows = pl.DataFrame({"a": values[:, 0], "b": values[:, 1]})
    target = values @ np.array([2.0, 1.0])
    made = {}
    for version, estimator in ((1, LinearRegression()), (2, LinearRegression()), (3, KernelRidge())):
        estimator.fit(rows, target * version)
        made[version] = build.package(
            estimator,
            rows=rows,
            contract=CONTRACT,
            task="regression",
            folder=folder / str(version),
            created=datetime(2026, 1, 1, tzinfo=UTC),
        )
    assert [made[version].kind for version in (1, 2, 3)] == ["onnx", "onnx", "skops"]
    return made


@pytest.fixture
def serve(tmp_path):
    """Start servers: `serve({version: Fake | "child"}, table, **limits)`; they are stopped at the end."""
    started: list[Running] = []

    def start(
        models: dict[int, Fake | str] | None = None,
        wanted: RouteTable | None = None,
        *,
        replay: bool = False,
        host: str = "127.0.0.1",
        **limits: Any,
    ) -> Running:
        config = Config(
            state=StateFolder(tmp_path / "state").create(),
            port=0,
            host=host,
            replay=replay,
            limits=Limits(**{"sweep_seconds": 0.02, "linger_seconds": 0.2, **limits}),
        )
        running = Running(config, models or {1: Fake(1)})
        started.append(running)
        running.start()
        if wanted is not None:
            assert running.put(wanted)["ok"]
        return running

    yield start
    for running in started:
        running.stop()
        shutil.rmtree(running.config.state.socket("any").parent, ignore_errors=True)
