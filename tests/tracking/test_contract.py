"""One suite for every tracker: what was told is there, once, however often it is told."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from trueline.errors import NotFound
from trueline.tracking.journal import Journal
from trueline.tracking.memory import MemoryTracking
from trueline.tracking.mlflow_store import MlflowTracking
from trueline.tracking.store import TrackedRun, TrackedVersion, Tracking

# MLflow 3.17 on SQLAlchemy 2.1
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

START = datetime(2026, 1, 1, tzinfo=UTC)


class Reader(Protocol):
    """Reads back what a tracker was told, by other means than the tracker."""

    def run(self, run_id: str) -> dict[str, Any]: ...
    def runs(self) -> int: ...
    def history(self, run_id: str, name: str) -> list[tuple[int, float]]: ...
    def versions(self, model: str) -> list[int]: ...
    def alias(self, model: str, alias: str) -> int | None: ...


class MemoryReader:
    def __init__(self, tracking: MemoryTracking) -> None:
        self.tracking = tracking

    def run(self, run_id: str) -> dict[str, Any]:
        kept = self.tracking.runs[run_id]
        last = {name: values[-1][1] for name, values in kept.metrics.items()}
        return {
            "status": kept.status,
            "params": kept.params,
            "metrics": last,
            "tags": kept.tags,
            "files": set(kept.files),
        }

    def runs(self) -> int:
        return len(self.tracking.runs)

    def history(self, run_id: str, name: str) -> list[tuple[int, float]]:
        return self.tracking.runs[run_id].metrics[name]

    def versions(self, model: str) -> list[int]:
        return sorted(number for name, number in self.tracking.versions if name == model)

    def alias(self, model: str, alias: str) -> int | None:
        return self.tracking.aliases.get((model, alias))


class MlflowReader:
    """The real client, on the same file."""

    def __init__(self, database: Path) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(f"sqlite:///{database}")

    def _runs(self) -> list[Any]:
        return list(self.client.search_runs([one.experiment_id for one in self.client.search_experiments()]))

    def _found(self, run_id: str) -> Any:
        (found,) = [one for one in self._runs() if one.data.tags["trueline.run_id"] == run_id]
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        found = self._found(run_id)
        own = {name: value for name, value in found.data.tags.items() if not name.startswith(("trueline.", "mlflow."))}
        return {
            "status": found.info.status,
            "params": found.data.params,
            "metrics": found.data.metrics,
            "tags": own,
            "files": {one.path for one in self.client.list_artifacts(found.info.run_id)},
        }

    def runs(self) -> int:
        return len(self._runs())

    def history(self, run_id: str, name: str) -> list[tuple[int, float]]:
        found = self.client.get_metric_history(self._found(run_id).info.run_id, name)
        return sorted((one.step, one.value) for one in found)

    def versions(self, model: str) -> list[int]:
        return sorted(
            int(one.tags["trueline.version"]) for one in self.client.search_model_versions(f"name = '{model}'")
        )

    def alias(self, model: str, alias: str) -> int | None:
        from mlflow.exceptions import MlflowException

        try:
            return int(self.client.get_model_version_by_alias(model, alias).tags["trueline.version"])
        except MlflowException:
            return None


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database as its migrations leave it: made once, copied for each test."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowTracking(folder / "mlflow.db", folder / "artifacts").close()
    return folder / "mlflow.db"


@pytest.fixture(params=["memory", "mlflow"])
def told(request: pytest.FixtureRequest, tmp_path: Path, fresh_database: Path) -> Iterator[tuple[Tracking, Reader]]:
    if request.param == "memory":
        memory = MemoryTracking()
        yield memory, MemoryReader(memory)
        return
    shutil.copy(fresh_database, tmp_path / "mlflow.db")
    tracking = MlflowTracking(tmp_path / "mlflow.db", tmp_path / "artifacts")
    yield tracking, MlflowReader(tmp_path / "mlflow.db")
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
