"""The worker's part of a gate, where it cannot come to an end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from trueline.clock import ManualClock
from trueline.control import gates, runs
from trueline.control.context import Context
from trueline.control.work import claim
from trueline.data.tables import Tables
from trueline.domain.gates import Gate
from trueline.domain.project import Data, Project
from trueline.domain.runs import RUNS, Purpose, RunEvent, RunState
from trueline.gates import loop
from trueline.settings import StateFolder
from trueline.store import moves, rows, tables
from trueline.store.engine import open_store

LEASE = timedelta(minutes=1)


@pytest.fixture
def context(tmp_path: Path, database: Any) -> Iterator[Context]:
    store = open_store(database, ManualClock(datetime(2026, 1, 5, tzinfo=UTC)))
    folder = StateFolder(tmp_path / "state").create()
    yield Context(Project("p", Data("x.csv", "y"), "model.py:fit"), tmp_path, folder, store, store.clock)
    store.close()


def asked(context: Context) -> str:
    """A gate that waits."""
    with context.store.begin() as tx:
        span: dict[str, Any] = {"window_from": tx.now, "cut_at": tx.now}
        told: dict[str, Any] = {"release": True, "actor": "ada", "reason": "asked"}
        run = runs.start(tx, "p", purpose=Purpose.manual, entry="model.py:fit", params={}, **span, **told)
        states: dict[str, Any] = {"waiting": RunState.queued, "busy": RunState.running}
        taken = moves.claim(tx, tables.runs, RUNS, RunEvent.claim, project="p", owner="w", lease=LEASE, **states)
        assert taken is not None
        made = runs.Trained("sha256:0", "onnx", "regression", {}, {}, {})
        version = runs.succeed(tx, run, taken[1], made, actor="w").number
        return gates.request(tx, "p", version, actor="ada", reason="asked").id


def test_a_gate_that_kills_its_worker_each_time_is_given_up(context: Context) -> None:
    gate = asked(context)
    for _ in range(loop.MOST_ATTEMPTS):
        assert claim(context, loop.WORK) is not None
        context.clock.advance(LEASE)  # type: ignore[attr-defined]  turned by hand
    assert loop.work_one(context, Tables(context.storage))
    with context.store.read() as tx:
        found = rows.get(tx, Gate, gate)
    assert found.verdict == "error"
    assert found.reason == "the gate could not be evaluated: 10 attempts ended with the death of their worker"
