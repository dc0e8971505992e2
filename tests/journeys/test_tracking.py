"""What a run leaves behind for people who live in MLflow, read back with MLflow's own client."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from journey import MODEL

from trueline.packaging.executors import load

# MLflow 3.17 on SQLAlchemy 2.1
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

RAISES = MODEL.replace("return", "raise ValueError('no luck') or")


@pytest.fixture(scope="module")
def desk(new_desk):
    """Three runs: one that was released, one that fails, and one with a parameter that was only tried."""
    desk = new_desk("tracked")
    desk.data("won", "answer")
    desk.project()
    assert desk.trueline("run", "--reason", "the first one").code == 0
    desk.write("model.py", RAISES)
    assert desk.trueline("run").code == 1
    desk.write("model.py", MODEL)
    assert desk.trueline("run", "--no-release", "-p", "fit_intercept=false").code in (0, 3, 4)
    return desk


@pytest.fixture(scope="module")
def client(desk):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{desk.state.tracking_database}")


@pytest.fixture(scope="module")
def runs(client):
    """MLflow's runs by our ids."""
    experiment = client.get_experiment_by_name("desk")
    found = client.search_runs([experiment.experiment_id])
    return {run.data.tags["trueline.run_id"]: run for run in found}


def test_a_run_arrives_with_its_figures_parameters_and_origin(desk, runs):
    run, ours = runs["run-1"], desk.trueline("runs", "--json").json["items"][-1]
    assert (ours["id"], run.info.status) == ("run-1", "FINISHED")
    assert run.data.metrics == pytest.approx(ours["metrics"])
    assert run.data.metrics["mae"] < 1
    assert run.data.params["entry"] == "model.py:fit"
    tags = run.data.tags
    assert (tags["trueline.reason"], tags["trueline.dataset"]) == ("the first one", "1")
    assert (tags["trueline.key"], tags["trueline.tree"]) == (ours["key"], ours["tree"])


def test_what_was_given_to_fit_is_a_parameter(runs):
    (tried,) = (run for run in runs.values() if "fit_intercept" in run.data.params)
    assert tried.data.params["fit_intercept"] in ("false", "False")
    assert "fit_intercept" not in runs["run-1"].data.params


def test_a_failed_run_says_why(runs):
    run = runs["run-2"]
    assert run.info.status == "FAILED"
    assert "ValueError: no luck" in run.data.tags["trueline.error"]


def test_its_files_can_be_downloaded(client, runs, tmp_path):
    uuid = runs["run-1"].info.run_id
    names = [file.path for file in client.list_artifacts(uuid)]
    assert names
    for name in names:
        assert Path(client.download_artifacts(uuid, name, str(tmp_path))).exists()


def test_versions_are_registered_and_the_champion_has_its_alias(desk, client, runs):
    champion = client.get_model_version_by_alias("desk", "champion")
    assert champion.tags["trueline.version"] == "1"
    assert champion.run_id == runs["run-1"].info.run_id
    ours = {v["number"]: v["digest"] for v in desk.trueline("versions", "--json").json["items"]}
    theirs = {int(v.tags["trueline.version"]): v.tags["trueline.digest"] for v in client.search_model_versions()}
    assert theirs == ours
    assert len(ours) == 2


def test_a_registered_version_is_the_model_that_is_served(client):
    champion = client.get_model_version_by_alias("desk", "champion")
    folder = Path(unquote(urlsplit(champion.source).path))
    assert (folder / "MLmodel").is_file()
    executor = load(folder, champion.tags["trueline.digest"])
    (said,) = executor.predict({"x": [1.0], "z": [0.0]})
    assert said == pytest.approx(13.7, abs=0.5)
