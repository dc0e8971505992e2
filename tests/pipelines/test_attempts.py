"""What becomes of a run whose attempt does not end well: put back, told once, and its logs kept wherever it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trueline.clock import ManualClock
from trueline.control import artefacts, events, incidents, runs, work
from trueline.control.context import Context
from trueline.data.tables import Tables
from trueline.domain.incidents import IncidentKind
from trueline.domain.project import Data, Project
from trueline.domain.runs import Purpose, Run, RunState
from trueline.errors import Conflict, Unavailable
from trueline.pipelines import loop, preparation
from trueline.pipelines.loop import WORK, Training
from trueline.settings import StateFolder
from trueline.storage.objects import Folder
from trueline.storage.places import Storage, open_storage
from trueline.store import moves, rows, tables
from trueline.store.engine import open_store
from trueline.wiring import open_services

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def context(database: Any, clock: ManualClock, tmp_path: Path) -> Any:
    store = open_store(database, clock)
    project = Project("p", Data("x.csv", "y"), "model.py:fit")
    yield Context(project, tmp_path, StateFolder(tmp_path / "state").create(), store, clock, actor="worker")
    store.close()


def queued(context: Context, purpose: Purpose = Purpose.manual) -> Run:
    asked = {"entry": "model.py:fit", "params": {}, "release": True, "actor": "ada", "reason": "asked"}
    with context.store.begin() as tx:
        return runs.start(tx, "p", purpose=purpose, window_from=NOON, cut_at=NOON, **asked)


def told(context: Context, ref: str = "run-1") -> list[tuple[str, str]]:
    with context.store.read() as tx:
        return [(event.kind, event.reason) for event in events.about(tx, "p", ref)]


def state(context: Context) -> RunState:
    with context.store.read() as tx:
        return rows.get(tx, Run, "run-1").state


class Refused(Training):
    """Whose work meets a conflict."""

    def _work(self, *_: object) -> None:
        raise Conflict("somebody else was first: a key that is taken")


def test_a_run_that_met_a_conflict_goes_on_without_waiting_for_its_lease_and_not_for_ever(
    context: Context, clock: ManualClock
) -> None:
    queued(context)
    training = Refused(Tables(context.storage))
    for _ in range(loop.MOST_ATTEMPTS):
        assert training.work_one(context)
        assert state(context) is RunState.queued
        assert told(context)[-1] == (
            "run.requeue",
            "not possible now, tried again later: somebody else was first: a key that is taken",
        )
        assert not training.work_one(context)
        clock.advance(WORK.retry)
    assert training.work_one(context)
    assert state(context) is RunState.failed
    assert f"{loop.MOST_ATTEMPTS} attempts" in told(context)[-1][1]


def test_a_run_that_was_lost_to_somebody_else_is_left_to_them(context: Context, clock: ManualClock) -> None:
    queued(context)

    class Slow(Training):
        def _work(self, context: Context, run: Run, fence: int) -> None:
            clock.advance(2 * work.LEASE)
            with context.store.begin() as tx:
                taken = moves.claim(
                    tx,
                    tables.runs,
                    WORK.machine,
                    WORK.claim,
                    project="p",
                    waiting=WORK.waiting,
                    busy=WORK.busy,
                    owner="elsewhere:1:1",
                    lease=work.LEASE,
                )
            assert taken == (run.id, fence + 1)
            raise Conflict("run run-1 was taken over by somebody else; this attempt changes nothing")

    assert Slow(Tables(context.storage)).work_one(context)
    assert state(context) is RunState.running
    assert [kind for kind, _ in told(context)] == ["run.create", "run.claim", "run.claim"]


def test_what_is_left_out_of_a_training_is_told_once_however_often_it_is_prepared(context: Context) -> None:
    run = queued(context, Purpose.rehearsal)
    with context.store.begin() as tx:
        cause = {"feature": "x", "slice": "all", "since": "2026-03-01", "until": None}
        said = {"version": 1, "reason": "x is broken", "advice": "upstream_fault", "detail": {}}
        incidents.raise_one(tx, "p", kind=IncidentKind.upstream, cause=cause, **said)
    found = pl.DataFrame({"at": [NOON] * 3, "x": [1.0] * 3, "_origin": ["source", "feedback", "feedback"]})
    for _ in range(3):
        assert preparation._unspoilt(context, run, found, "at").height == 1
    again = queued(context, Purpose.rehearsal)
    preparation._unspoilt(context, again, found, "at")
    for ref in (run.id, again.id):
        (reason,) = [reason for kind, reason in told(context, ref) if kind == "run.quarantine"]
        assert reason.startswith("2 of 3 rows are left out of this training")


@dataclass
class Away(Folder):
    """Which cannot be reached."""

    def __init__(self) -> None: ...

    def put(self, key: str, source: Path) -> None:
        raise Unavailable(f"{key} of {source} cannot be kept: the service failed")


def test_a_storage_that_is_away_does_not_keep_a_failed_run_from_having_failed(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    run = queued(context)
    context.folder.run(run.id).mkdir(parents=True)
    (context.folder.run(run.id) / "log.txt").write_text("no luck")
    away = Context(**{**vars(context), "engine": Storage("tables", Away())})
    claimed = work.claim(away, WORK)
    assert claimed is not None
    loop.fail(away, run, claimed, "ValueError: no luck")
    assert state(context) is RunState.failed
    assert "what run-1 said is on this machine only" in caplog.text


def machine(context: Context, name: str, shared: Path) -> Context:
    folder = StateFolder(shared / name).create()
    return Context(**{**vars(context), "folder": folder, "engine": open_storage(str(shared / "storage"), folder)})


def test_of_several_attempts_on_several_machines_the_last_one_s_words_are_had(context: Context, tmp_path: Path) -> None:
    first, second = (machine(context, name, tmp_path) for name in ("first", "second"))

    def say(where: Context, words: str) -> None:
        folder = where.folder.run("run-1")
        (folder / "steps" / "prepare").mkdir(parents=True, exist_ok=True)
        for name in ("spec.json", "steps/prepare/log.txt", "rows.arrow"):
            (folder / name).write_text(words)

    def heard(where: Context) -> str:
        artefacts.bring_said(where, "run-1")
        return (where.folder.run("run-1") / "steps" / "prepare" / "log.txt").read_text()

    say(first, "one")
    artefacts.keep_said(first, "run-1", 1)
    assert heard(second) == "one"
    assert not (second.folder.run("run-1") / "rows.arrow").exists()
    say(second, "two")
    artefacts.keep_said(second, "run-1", 2)
    assert [heard(first), heard(second)] == ["two", "two"]
    say(first, "three")  # could not be kept
    (first.folder.run("run-1") / artefacts.ATTEMPT).write_text("3")
    assert heard(first) == "three"


def test_a_death_while_an_attempt_is_noted_leaves_the_note_of_the_one_before(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine(context, "first", tmp_path)
    folder = here.folder.run("run-1")
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text("one")
    artefacts.keep_said(here, "run-1", 1)

    def cut_off(path: Path, text: str) -> None:
        path.write_bytes(text.encode()[:0])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", cut_off)
        with pytest.raises(KeyboardInterrupt):
            artefacts.keep_said(here, "run-1", 2)
    artefacts.bring_said(here, "run-1")
    assert (folder / artefacts.ATTEMPT).read_text() == "1"


PROJECT = """\
version: 1
project: p
data: {source: rows.csv, target: y}
train: pipeline.py:training
retrain: {rehearse: off}
storage: shared
"""

PIPELINE = """\
import os
import signal

from sklearn.linear_model import LinearRegression
from trueline import pipeline, step


@step
def prepare(frame):
    print("prepared", len(frame), "rows")
    raise ValueError("no luck")


@step
def fitted(rows):
    return LinearRegression()


@pipeline
def training(frame):
    return fitted(prepare(frame))


def killed(frame):
    print("about to be killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("fit", "log", "printed", "error"),
    [
        (None, "steps/prepare/log.txt", "prepared ", "ValueError: no luck"),
        ("pipeline.py:killed", "log.txt", "about to be killed\n", "was killed (signal 9)"),
    ],
    ids=["a step raises", "it is killed"],
)
def test_the_logs_of_a_run_that_failed_are_in_the_storage(
    fit: str | None, log: str, printed: str, error: str, tmp_path: Path
) -> None:
    (tmp_path / "trueline.yaml").write_text(PROJECT)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    x = np.random.default_rng(1).normal(size=300)
    pl.DataFrame({"x": x, "y": 3 * x}).write_csv(tmp_path / "rows.csv")
    services = open_services(tmp_path / "trueline.yaml", tmp_path / "state")
    try:
        asked = services.start_run(fit=fit, params={}, source=None, release=True, reason="asked", actor="ada")
        services.work_until_idle()
        run = services.run(asked.id)
    finally:
        services.close()
    assert run.state is RunState.failed
    assert error in str(run.error)
    kept = tmp_path / "shared" / "p" / "runs" / run.id
    assert printed in (kept / log).read_text()
    assert (kept / "spec.json").exists()
    assert not (kept / "rows.arrow").exists()
