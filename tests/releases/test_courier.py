"""Models are brought to this machine without anybody waiting for a slow storage."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from trueline.clock import ManualClock
from trueline.control.context import Context
from trueline.domain.project import Data, Project
from trueline.domain.routes import Arm, Route, RouteTable
from trueline.errors import Unavailable
from trueline.releases.courier import Courier
from trueline.settings import StateFolder
from trueline.storage import trees
from trueline.storage.objects import Folder
from trueline.storage.places import open_storage
from trueline.store.engine import open_store


@pytest.fixture
def folder(tmp_path):
    return StateFolder(tmp_path / "here").create()


@pytest.fixture
def context(tmp_path, folder):
    store = open_store(folder.database, ManualClock())
    storage = open_storage(str(tmp_path / "shared"), folder)
    yield Context(
        Project("p", Data("rows.csv", "y"), "model.py:fit"), tmp_path, folder, store, ManualClock(), engine=storage
    )
    store.close()


@pytest.fixture
def table(context, tmp_path):
    """Two versions whose models are in the storage."""
    routes = []
    for number, (arm, weight) in enumerate([(Arm.champion, 1.0), (Arm.shadow, 0.0)], start=1):
        model = tmp_path / "elsewhere" / f"run-{number}" / "model"
        model.mkdir(parents=True)
        (model / "trueline.json").write_text(f"{number}")
        digest = trees.digest(model)
        trees.keep_tree(context.storage.objects, model, digest)
        routes.append(Route(number, arm, weight, f"runs/run-{number}/model", digest))
    return RouteTable(epoch=1, model="p", routes=tuple(routes))


def test_models_are_where_the_servers_look_for_them(context, folder, table):
    assert Courier(context).bring(table) == table
    for route in table.routes:
        assert trees.digest(folder.root / route.path) == route.digest
    Courier(context).bring(table)


def test_a_slow_storage_holds_nobody_up_and_the_next_who_asks_finds_them(context, folder, table, monkeypatch):
    may, arrived, read = threading.Event(), threading.Event(), Folder.read

    def slow(self, key):
        arrived.set()
        assert may.wait(20)
        return read(self, key)

    monkeypatch.setattr(Folder, "read", slow)
    courier = Courier(context, patience=0.01)
    with pytest.raises(Unavailable, match="the model of version 1 is on its way from"):
        courier.bring(table)
    assert arrived.wait(20)
    may.set()
    Courier(context, patience=20).bring(table)
    assert (folder.root / "runs/run-1/model").exists()


def test_what_keeps_a_model_away_is_told(context, table, monkeypatch):
    def away(self, prefix):  # noqa: ARG001
        raise Unavailable("the bucket is away")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "list", away)
        with pytest.raises(Unavailable, match="the bucket is away"):
            Courier(context).bring(table)
    Courier(context).bring(table)


def test_while_only_a_shadow_is_missing_nobody_waits_for_it(context, table, monkeypatch):
    first = replace(table, routes=table.routes[:1])
    Courier(context).bring(first)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "list", lambda self, prefix: {})  # noqa: ARG005  it was never kept
        assert Courier(context).bring(table) == first
    courier = Courier(context)
    assert courier.bring(table) == table
    assert table.completes(first)
    assert not first.completes(table)


def test_models_that_are_here_need_no_storage(context, table, monkeypatch):
    Courier(context).bring(table)
    monkeypatch.setattr(Folder, "list", None)
    assert Courier(context).bring(table) == table
