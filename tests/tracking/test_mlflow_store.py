"""What is MLflow's own: repeats after a death in the middle, other processes, and silence."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trueline.tracking.journal import Journal
from trueline.tracking.mlflow_store import MlflowTracking
from trueline.tracking.store import TrackedRun

# MLflow 3.17 on SQLAlchemy 2.1
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

START = datetime(2026, 1, 1, tzinfo=UTC)
CALLS = ("create_run", "log_batch", "update_run_info")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowTracking(folder / "mlflow.db", folder / "artifacts").close()
    return folder


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_death_around_any_write_doubles_and_loses_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, when: str
) -> None:
    run = TrackedRun(f"run-{call}-{when}", "flights", "FINISHED", START, START, {"a": "1"}, {"mae": 2.0}, {}, tmp_path)
    written = Journal(tmp_path)
    written.metric("loss", 0.5)
    written.close()
    first = MlflowTracking(folder / "mlflow.db", folder / "artifacts")
    real = getattr(first._runs, call)

    def dies(*given: object, **named: object) -> object:
        if when == "after":
            real(*given, **named)
        raise Killed

    monkeypatch.setattr(first._runs, call, dies)
    with pytest.raises(Killed):
        first.run(run)
    first.close()
    second = MlflowTracking(folder / "mlflow.db", folder / "artifacts")
    second.run(run)
    experiment = second._runs.get_experiment_by_name("flights").experiment_id
    found = second._runs.search_runs([experiment], f"tags.`trueline.run_id` = '{run.run_id}'", 1, 10)
    assert len(found) == 1
    assert found[0].info.status == "FINISHED"
    assert found[0].data.metrics == {"mae": 2.0, "loss": 0.5}
    assert len(second._runs.get_metric_history(found[0].info.run_id, "loss")) == 1
    second.close()


def test_importing_the_store_does_not_import_mlflow() -> None:
    script = (
        "import sys, trueline.tracking.mlflow_store; sys.exit('mlflow' in sys.modules or 'sqlalchemy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.slow
def test_mlflow_is_silent_and_calls_nobody(tmp_path: Path) -> None:
    script = """
import socket, sys
from pathlib import Path
def refuse(*given): raise AssertionError("the network was used")
socket.socket.connect = refuse
from trueline.tracking.mlflow_store import MlflowTracking
folder = Path(sys.argv[1])
MlflowTracking(folder / "mlflow.db", folder / "artifacts").close()
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled()
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
