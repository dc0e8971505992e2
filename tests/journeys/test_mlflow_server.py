"""A project that is tracked by a team's MLflow server: what its people find there, by client and in a browser."""

from __future__ import annotations

import importlib.util

import pytest
from journey import ON_POSTGRESQL

from mlflow_server import Line
from real import need

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # MLflow 3.17 on SQLAlchemy 2.1
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of the whole of MLflow, about itself
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

PATIENCE_MS = 90_000  # its page loads megabytes

MODEL = """\
import mlflow
import trueline
from sklearn.linear_model import LinearRegression

def fit(frame):
    with mlflow.start_run():
        model = LinearRegression().fit(frame.select("x", "z"), frame["y"])
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        trueline.log("rows", len(frame))
        mlflow.log_param("solver", "least squares")
        mlflow.set_tag("team", "growth")
        mlflow.log_text("all is well", "notes/fit.txt")
    return model
"""


@pytest.fixture(scope="module")
def desk(new_desk, mlflow_server):
    """Trained while the server is away; told when it is there again."""
    desk = new_desk("served")
    desk.data("won", "answer")
    desk.project(MODEL)
    line = Line(mlflow_server.url)
    line.fault = lambda _line, _request: "drop"
    path = desk.folder / "trueline.yaml"
    path.write_text(path.read_text() + f"tracking: {line.url}\n")
    assert desk.trueline("run", "--reason", "while MLflow is away").code == 0
    told = desk.trueline("status").out
    assert "not told yet" in told
    assert f"MLflow at {line.url}" in " ".join(told.split())
    line.fault = lambda _line, _request: None
    assert desk.trueline("run", "--reason", "nothing new").code in (0, 3, 4)
    assert desk.trueline("status", "--json").json["tracking"] == {"waiting": 0, "error": None}
    yield desk
    line.close()


@pytest.fixture(scope="module")
def mlflow(mlflow_server):
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_server.url)
    yield mlflow
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def run(desk, mlflow):  # noqa: ARG001  told by desk
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("desk")
    found = client.search_runs([experiment.experiment_id], "tags.`trueline.run_id` = 'run-1'")
    assert len(found) == 1
    return found[0]


def test_a_run_is_there_with_all_that_its_code_told_mlflow(mlflow, run):
    client = mlflow.MlflowClient()
    assert run.info.status == "FINISHED"
    assert run.data.params["solver"] == "least squares"
    assert run.data.params["entry"] == "model.py:fit"
    assert run.data.tags["team"] == "growth"
    assert run.data.tags["trueline.reason"] == "while MLflow is away"
    assert run.data.metrics["mae"] < 1
    assert run.data.metrics["rows"] > 100
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(step, 1 / (step + 1)) for step in range(5)]
    assert {one.path for one in client.list_artifacts(run.info.run_id)} >= {"log.txt", "code.zip", "notes", "model"}
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/fit.txt") == "all is well"


def test_the_champion_loads_from_the_registry_and_predicts(mlflow, run):
    need(importlib.util.find_spec("pandas") is not None, "the whole of MLflow (pip install mlflow)")
    import pandas as pd

    client = mlflow.MlflowClient()
    version = client.get_model_version_by_alias("desk", "champion")
    assert (version.version, version.run_id, version.tags["trueline.version"]) == ("1", run.info.run_id, "1")
    model = mlflow.pyfunc.load_model("models:/desk@champion")
    frame = pd.DataFrame({"x": [1.0], "z": [0.0]}).astype("float32")
    assert float(model.predict(frame).squeeze()) == pytest.approx(13.7, abs=0.5)


@pytest.mark.skipif(ON_POSTGRESQL, reason="shows what MLflow keeps, which the tests above have read")
def test_mlflows_own_page_shows_the_run_and_the_version(mlflow_server, desk, run, chromium):  # noqa: ARG001  what it shows is made by desk
    from playwright.sync_api import expect

    page = chromium.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{mlflow_server.url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")
    expect(page.get_by_text("run-1").first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text("least squares").first).to_be_visible(timeout=PATIENCE_MS)
    page.goto(f"{mlflow_server.url}/#/models/desk/versions/1")
    expect(page.get_by_text("trueline.digest").first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text("champion").first).to_be_visible(timeout=PATIENCE_MS)
    page.close()
