"""Code in a training calls MLflow as ever, and all of it lands in its run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
from readers import MemoryReader

from real import need
from trueline.tracking import journal
from trueline.tracking.memory import MemoryTracking
from trueline.tracking.recording import STORE, recording
from trueline.tracking.store import TrackedRun

# MLflow 3.17 on SQLAlchemy 2.1
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

START = datetime(2026, 1, 1, tzinfo=UTC)

PLAIN = """
trueline.log("before", 1.0)
import mlflow
from mlflow import MlflowClient
mlflow.set_tracking_uri("http://127.0.0.1:9")
mlflow.set_experiment("of the script")
mlflow.log_param("depth", 6)
mlflow.log_metric("loss", 0.5)
with mlflow.start_run(nested=True, run_name="fold 1"):
    mlflow.log_metrics({"score": 0.25}, step=1)
    mlflow.log_text("inside", "inside.txt")
assert mlflow.active_run().info.run_id == "run-7"
mlflow.end_run()
with mlflow.start_run() as run:
    mlflow.log_metric("loss", 0.25, step=1)
    mlflow.set_tag("team", "growth")
    mlflow.log_dict({"a": 1}, "notes/a.json")
    mlflow.log_params({"trees": 10}, synchronous=False)
    assert MlflowClient().get_run(run.info.run_id).data.metrics == {"before": 1.0, "loss": 0.25}
    assert [one.value for one in MlflowClient().get_metric_history("run-7", "loss")] == [0.5, 0.25]
    try:
        mlflow.log_param("depth", 7)
    except mlflow.MlflowException as problem:
        assert "Changing param values is not allowed" in str(problem)
trueline.log("after", 2.0)
try:
    mlflow.search_runs(["0"], output_format="list")
except mlflow.MlflowException as problem:
    assert "MlflowClient(tracking_uri=" in str(problem)
mlflow.log_metric("left open", 1)
"""

AUTOMATIC = """
import mlflow
from sklearn.linear_model import LinearRegression
import numpy as np
x, y = np.random.default_rng(1).normal(size=(50, 2)), np.arange(50.0)
mlflow.sklearn.autolog(log_models=False)
model = LinearRegression().fit(x, y)
mlflow.sklearn.autolog(disable=True)
mlflow.sklearn.log_model(model, name="mine", registered_model_name="theirs", pip_requirements=[])
"""

DIES = """
import mlflow, os, signal
with mlflow.start_run():
    with mlflow.start_run(nested=True):
        mlflow.log_metric("loss", 0.5)
        os.kill(os.getpid(), signal.SIGKILL)
"""

DOCS = Path(__file__).parents[2] / "docs" / "mlflow.md"


def train(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """The code in a process of its own, as a training runs it."""
    body = textwrap.indent(code, "    ")
    script = f"import sys, pathlib, trueline\nfrom trueline.tracking.recording import recording\nwith recording(pathlib.Path(sys.argv[1]), 'run-7'):\n{body}"
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def told(folder: Path, status: str = "FINISHED") -> tuple[MemoryTracking, MemoryReader]:
    tracking = MemoryTracking()
    tracking.run(TrackedRun("run-7", "p", status, START, START, folder=folder))
    return tracking, MemoryReader(tracking)


@pytest.mark.slow
def test_every_call_lands_in_the_run_without_a_server(tmp_path: Path) -> None:
    done = train(tmp_path, PLAIN)
    assert done.returncode == 0, done.stderr
    assert "mlflow.set_tracking_uri('http://127.0.0.1:9') has no effect inside a training" in done.stderr
    _, reader = told(tmp_path)
    found = reader.run("run-7")
    assert found["params"] == {"depth": "6", "trees": "10"}
    assert found["metrics"] == {"before": 1.0, "loss": 0.25, "after": 2.0, "left open": 1.0}
    assert found["tags"] == {"team": "growth"}
    assert found["files"] == {"notes/a.json"}
    assert reader.history("run-7", "loss") == [(0, 0.5), (1, 0.25)]
    assert reader.nested("run-7") == [("FINISHED", {"score": 0.25})]
    assert [path.read_text() for path in tmp_path.rglob("inside.txt")] == ["inside"]
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.slow
def test_autologging_and_logged_models_land_in_the_run_too(tmp_path: Path) -> None:
    need(importlib.util.find_spec("pandas") is not None, "the whole of MLflow (pip install mlflow)")
    done = train(tmp_path, AUTOMATIC)
    assert done.returncode == 0, done.stderr
    assert "trueline registers the version when its run ends" in done.stderr
    tracking, reader = told(tmp_path)
    assert list(tracking.runs) == ["run-7"]
    found = reader.run("run-7")
    assert found["params"]["fit_intercept"] == "True"
    assert found["metrics"]["training_r2_score"] >= 0
    assert reader.models("run-7") == ["mine"]
    assert reader.inputs("run-7") == ["dataset"]
    assert len(list(tmp_path.glob("mlflow/models/*/MLmodel"))) == 1


@pytest.mark.slow
def test_what_was_said_before_a_death_is_there(tmp_path: Path) -> None:
    assert train(tmp_path, DIES).returncode == -9
    _, reader = told(tmp_path, "FAILED")
    assert reader.nested("run-7") == [("FAILED", {"loss": 0.5})]


def test_a_training_that_never_calls_mlflow_does_not_import_it(tmp_path: Path) -> None:
    done = train(tmp_path, "trueline.log('loss', 0.5)\nassert not [name for name in sys.modules if 'mlflow.' in name]")
    assert done.returncode == 0, done.stderr


def test_an_attempt_begins_anew_and_leaves_the_surroundings_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "of another program")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")

    before = dict(os.environ)
    for value in (1.0, 2.0):
        with recording(tmp_path, "run-7"):
            assert "MLFLOW_RUN_ID" not in os.environ
            assert os.environ["MLFLOW_TRACKING_URI"].endswith("?run=run-7")
            journal.log("loss", value)
            (tmp_path / "mlflow" / "artifacts").mkdir(parents=True, exist_ok=True)
            (tmp_path / "mlflow" / "artifacts" / f"{value}").touch()
        assert dict(os.environ) == before
    _, reader = told(tmp_path)
    assert reader.history("run-7", "loss") == [(0, 2.0)]
    assert reader.run("run-7")["files"] == {"2.0"}


@pytest.mark.slow
def test_a_registered_model_can_be_loaded_in_a_training(tmp_path: Path, mlflow_database: Path) -> None:
    code = f"""
import os
os.environ["{STORE}"] = "sqlite:///{mlflow_database}"
from mlflow import MlflowClient
assert MlflowClient().search_registered_models() == []
"""
    done = train(tmp_path, code)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_example_of_the_docs_does_what_they_say(tmp_path: Path) -> None:
    code = DOCS.read_text().partition("```python\n")[2].partition("```")[0]
    done = train(tmp_path, f"{code}\nimport polars\nfit(polars.DataFrame({{'x': [1.0, 2.0], 'y': [1.0, 2.0]}}))")
    assert done.returncode == 0, done.stderr
    _, reader = told(tmp_path)
    assert reader.run("run-7")["metrics"] == {"loss": 0.5, "rows": 2.0}
    assert reader.run("run-7")["files"] == {"notes/rows.json"}
    assert reader.nested("run-7") == [("FINISHED", {"score": 0.9})]
