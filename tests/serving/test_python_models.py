"""Pickled objects in the server: in processes of their own, and only where that is wanted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import polars as pl
import pytest

from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.domain.routes import Arm, Route
from trueline.errors import PackagingFailed
from trueline.packaging.build import package
from trueline.packaging.python_model import Code
from trueline.serving.contained import Contained
from trueline.serving.limits import Limits
from trueline.serving.loading import Loader
from trueline.serving.metrics import Metrics
from trueline.serving.runners import Batch
from trueline.serving.scoreboard import Scoreboard


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    contract = Contract((Column("x", Kind.float64), Column("y", Kind.float64, role=Role.target)))
    return package(
        lambda frame: frame["x"] * 2,
        rows=pl.DataFrame({"x": [1.0, 2.0, 3.0]}),
        contract=contract,
        task="regression",
        folder=tmp_path_factory.mktemp("python") / "model",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        code=Code(),
    )


@pytest.fixture
def load(tmp_path):
    """Load a version as a server does."""

    def load(route, **policy):
        board = Scoreboard(tmp_path / "scoreboard")
        try:
            return Loader(board, Limits(), Metrics(), Contained(tmp_path / "contained"), **policy)(route)
        finally:
            board.close()

    return load


def route(packaged, digest=None):
    return Route(3, Arm.champion, 1.0, str(packaged.folder), packaged.digest if digest is None else digest)


def test_a_pickled_object_answers_from_its_own_process(packaged, load):
    async def asked():
        runner = await load(route(packaged))
        scored = asyncio.get_running_loop().create_future()
        runner.run(Batch({"x": [4.0, None]}, rows=2, requests=1, event_us=0), scored.set_result)
        try:
            return runner.kind, await scored
        finally:
            await runner.close()

    kind, scored = asyncio.run(asked())
    assert kind == "python"
    assert scored.values.tolist()[:1] == [8.0]


@pytest.mark.parametrize(
    ("digest", "policy", "says"),
    [
        (
            None,
            {"pickle": False},
            "version 3 holds a pickled Python object, and this server loads none; set serve.pickle",
        ),
        ("", {}, "no digest says which"),
        ("sha256:0", {}, "has digest sha256:.*, expected sha256:0"),
    ],
)
def test_it_is_opened_only_where_that_is_wanted_and_it_is_the_one(packaged, load, digest, policy, says):
    with pytest.raises(PackagingFailed, match=says):
        asyncio.run(load(route(packaged, digest), **policy))
