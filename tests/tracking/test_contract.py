"""One suite for every tracker: what was told is there, once, however often it is told."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from readers import MemoryReader, MlflowReader, Reader

from trueline.errors import NotFound
from trueline.tracking import journal
from trueline.tracking.entries import Ended, Entry, Input, Metric, Model, Nested, Tag, encode
from trueline.tracking.journal import Journal
from trueline.tracking.memory import MemoryTracking
from trueline.tracking.mlflow_store import MlflowTracking
from trueline.tracking.store import TrackedRun, TrackedVersion, Tracking

# MLflow 3.17 on SQLAlchemy 2.1
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

START = datetime(2026, 1, 1, tzinfo=UTC)


REAL = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(params=["memory", "mlflow", pytest.param("server", marks=REAL)])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Tracking, Reader]]:
    if request.param == "memory":
        memory = MemoryTracking()
        yield memory, MemoryReader(memory)
        return
    if request.param == "mlflow":
        shutil.copy(request.getfixturevalue("mlflow_database"), tmp_path / "mlflow.db")
        tracking = MlflowTracking(tmp_path / "mlflow.db", tmp_path / "artifacts")
        yield tracking, MlflowReader(f"sqlite:///{tmp_path}/mlflow.db")
    else:
        url = request.getfixturevalue("mlflow_server").url
        deployment = uuid.uuid4().hex  # tests share the server as teams do
        tracking = MlflowTracking(url, tmp_path / "artifacts", deployment)
        yield tracking, MlflowReader(url, deployment)
    tracking.close()


@pytest.fixture
def run(tmp_path: Path) -> TrackedRun:
    folder = tmp_path / "run-1"
    folder.mkdir()
    (folder / "log.txt").write_text("fitting\n")
    written = Journal(folder)
    for number in range(3):
        written.metric("loss", 1.0 / (number + 1))
    written.params({"rounds": 10})
    written.close()
    return TrackedRun(
        run_id="run-1",
        project="flights",
        status="FINISHED",
        started_at=START,
        finished_at=START + timedelta(seconds=9),
        params={"depth": "6"},
        metrics={"mae": 3.5},
        tags={"reason": "weekly"},
        folder=folder,
    )


def say(run: TrackedRun, *entries: Entry) -> None:
    assert run.folder is not None
    written = Journal(run.folder)
    written.append("".join(map(encode, entries)))
    written.close()


def keep(run: TrackedRun, *names: str) -> None:
    assert run.folder is not None
    for name in names:
        path = run.folder / "mlflow" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"run_id: {name}\n")


def version(run: TrackedRun, number: int = 1) -> TrackedVersion:
    assert run.folder is not None
    return TrackedVersion("flights", number, run.run_id, run.folder / "model", "sha256:aa", {"executor": "onnx"})


def test_a_run_arrives_with_its_journal_and_files(told: tuple[Tracking, Reader], run: TrackedRun) -> None:
    tracking, reader = told
    tracking.run(run)
    assert reader.run("run-1") == {
        "status": "FINISHED",
        "params": {"depth": "6", "rounds": "10"},
        "metrics": {"mae": 3.5, "loss": 1 / 3},
        "tags": {"reason": "weekly"},
        "files": {"log.txt"},
    }
    assert reader.history("run-1", "loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]


def test_telling_again_changes_nothing(told: tuple[Tracking, Reader], run: TrackedRun) -> None:
    tracking, reader = told
    for _ in range(2):
        tracking.run(run)
        tracking.version(version(run))
        tracking.alias("flights", "champion", 1)
    assert reader.runs() == 1
    assert reader.history("run-1", "loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert reader.history("run-1", "mae") == [(0, 3.5)]
    assert reader.versions("flights") == [1]
    assert reader.run("run-1")["files"] == {"log.txt"}


def test_a_run_that_goes_on_is_fed_from_where_it_stopped(told: tuple[Tracking, Reader], run: TrackedRun) -> None:
    tracking, reader = told
    tracking.run(replace(run, status="RUNNING", finished_at=None, metrics={}))
    assert reader.run("run-1")["status"] == "RUNNING"
    assert run.folder is not None
    more = Journal(run.folder)
    more.metric("loss", 0.1, step=3)
    more.close()
    tracking.run(run)
    assert reader.history("run-1", "loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3), (3, 0.1)]


def test_what_mlflow_was_told_arrives_in_the_run_and_in_those_nested_in_it(
    told: tuple[Tracking, Reader], run: TrackedRun
) -> None:
    tracking, reader = told
    say(
        run,
        Tag("team", "growth"),
        Nested("inner", "fold 1", 1_767_225_600_000),
        Metric("score", 0.5, 0, 1_767_225_600_001, "inner"),
        Metric("score", 0.75, 1, 1_767_225_600_002, "inner"),
        Ended("inner", "FINISHED", 1_767_225_600_003),
        Nested("left", "fold 2", 1_767_225_600_004, "inner"),
        Nested("open", "fold 3", 1_767_225_600_004),
        Input(
            {"name": "rows", "digest": "d1", "source_type": "code", "source": "{}"}, {"mlflow.data.context": "train"}
        ),
        Model("m-1", "forest", None, {"trees": "10"}, {"team": "growth"}),
        Metric("auc", 0.9, 0, 1_767_225_600_005, model="m-1"),
    )
    keep(run, "artifacts/notes/a.txt", "artifacts/b.json", "models/m-1/MLmodel", "runs/inner/artifacts/c.txt")
    for _ in range(2):
        tracking.run(replace(run, status="FAILED"))
    found = reader.run("run-1")
    assert found["tags"] == {"reason": "weekly", "team": "growth"}
    assert found["files"] == {"log.txt", "notes/a.txt", "b.json"}
    assert found["metrics"]["auc"] == 0.9
    assert reader.nested("run-1") == [("FAILED", {}), ("FINISHED", {"score": 0.75})]
    assert reader.inputs("run-1") == ["rows"]
    assert reader.models("run-1") == ["forest"]
    assert reader.runs() == 4


def test_steps_log_into_their_run_and_an_attempt_made_anew_is_read_from_its_start(
    told: tuple[Tracking, Reader], run: TrackedRun
) -> None:
    tracking, reader = told
    assert run.folder is not None
    step = run.folder / "steps" / "prepare"
    step.mkdir(parents=True)
    for attempt, value in (("a1", 1.0), ("a2", 2.0)):
        (step / journal.NAME).unlink(missing_ok=True)
        begun = journal.begin(step, attempt)
        begun.append(encode(Metric("rows", value, 0, 1_767_225_600_000)))
        journal.end()
        tracking.run(replace(run, status="FAILED" if attempt == "a1" else "FINISHED"))
    assert reader.history("run-1", "rows") == [(0, 1.0), (0, 2.0)]
    assert reader.history("run-1", "loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert reader.run("run-1")["status"] == "FINISHED"


def test_a_failed_run_without_a_folder_is_a_run_too(told: tuple[Tracking, Reader], run: TrackedRun) -> None:
    tracking, reader = told
    tracking.run(replace(run, status="FAILED", folder=None, metrics={}, params={}))
    assert reader.run("run-1")["status"] == "FAILED"


def test_long_journals_and_many_parameters_arrive_whole(told: tuple[Tracking, Reader], run: TrackedRun) -> None:
    tracking, reader = told
    assert run.folder is not None
    more = Journal(run.folder)
    for number in range(2000):
        more.metric("long", number)
    more.params({f"p{number}": number for number in range(250)})
    more.close()
    tracking.run(run)
    assert reader.history("run-1", "long") == [(number, float(number)) for number in range(2000)]
    assert len(reader.run("run-1")["params"]) == 252


def test_an_alias_moves_and_goes(told: tuple[Tracking, Reader], run: TrackedRun) -> None:
    tracking, reader = told
    tracking.run(run)
    tracking.version(version(run, 4))
    tracking.version(version(run, 2))
    assert reader.versions("flights") == [2, 4]
    tracking.alias("flights", "champion", 4)
    tracking.alias("flights", "champion", 2)
    assert reader.alias("flights", "champion") == 2
    for _ in range(2):
        tracking.alias("flights", "champion", None)
    assert reader.alias("flights", "champion") is None


def test_an_alias_of_what_is_not_there(told: tuple[Tracking, Reader]) -> None:
    tracking, _ = told
    tracking.alias("nothing", "champion", None)
    with pytest.raises(NotFound, match="model flights has no registered version 3"):
        tracking.alias("flights", "champion", 3)
