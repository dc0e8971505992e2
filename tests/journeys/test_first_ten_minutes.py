"""The README's first ten minutes with somebody's own CSV: init, run, status, why, up, predict, label, stop."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from journey import Desk, frame

# MLflow 3.17 on SQLAlchemy 2.1
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def started(new_desk) -> Desk:
    """A CSV with a number to predict, and the model that init wrote for it, trained and released."""
    desk = new_desk("regression")
    desk.data("won", "answer")
    said = desk.trueline("init", "--source", "data.csv", "--target", "y", "--time", "at", "--entity", "id")
    assert (said.code, said.out) == (0, f"wrote {desk.folder}/trueline.yaml\nwrote {desk.folder}/model.py\n")
    said = desk.trueline("run", "--json")
    assert said.code == 0, said.err
    assert said.json["run"]["version"] == said.json["gate"]["version"] == 1
    assert (said.json["gate"]["verdict"], said.json["release"]["state"]) == ("pass", "promoted")
    return desk


def kinds(desk: Desk, ref: str) -> dict[str, str]:
    """The reasons of everything that happened to one thing."""
    return {one["kind"]: one["reason"] for one in desk.trueline("events", "--json").lines if one["ref"] == ref}


def test_the_first_run_is_told_as_it_goes_and_serves_version_1(started):
    status = started.trueline("status", "--json").json
    assert (status["champion"], status["dataset"], status["idle"]) == (1, 1, True)
    assert [(route["version"], route["weight"]) for route in status["routes"]] == [(1, 1.0)]
    assert "version 1 serves" in started.trueline("status").out
    happened = [one["kind"] for one in started.trueline("events", "--json").lines]
    order = ["run.create", "dataset.version", "run.succeed", "gate.decide", "release.promote", "route.set"]
    assert [kind for kind in happened if kind in order][: len(order)] == order


def test_nothing_changed_means_nothing_is_trained(started):
    again = started.trueline("run", "--json")
    assert (again.code, again.json["run"]["version"], again.json["run"]["cached_from"]) == (0, 1, "run-1")
    assert "nothing changed since run-1" in kinds(started, again.json["run"]["id"])["run.succeed"]
    model = started.folder / "model.py"
    model.write_text("# a remark\n" + model.read_text())
    assert started.trueline("run", "--json").json["run"]["cached_from"] == "run-1"


def test_a_changed_parameter_trains_anew(started):
    said = started.trueline("run", "--json", "--no-release", "--param", "max_iter=50")
    assert said.json["run"]["cached_from"] is None
    assert said.json["run"]["version"] > 1
    assert said.code in (0, 3, 4), said.err


def test_why_goes_from_a_version_back_to_code_and_data(started):
    for ref in ("1", "v1", "run-1", "release-1", "gate-1"):
        found = started.trueline("why", ref, "--json")
        assert found.code == 0, found.err
        links = {link["noun"]: link for link in found.json["links"]}
        assert {"version", "gate", "release", "run", "code", "dataset"} <= links.keys()
        assert (links["run"]["ref"], links["dataset"]["ref"]) == ("run-1", "d1")
        assert re.fullmatch("[0-9a-f]{64}", links["code"]["ref"])
        assert links["gate"]["sentence"].startswith("pass: ")
    assert "run-1 succeeded" in started.trueline("why", "run-1").out


def test_what_comes_out_of_a_pipe_is_plain_text(started):
    said = [started.trueline(command) for command in ("status", "events", "runs", "versions")]
    assert [one.code for one in said] == [0, 0, 0, 0]
    assert all("\x1b" not in one.out and one.err == "" for one in said)


@pytest.mark.parametrize("target", ["won", "answer"])
def test_two_values_make_a_classification(new_desk, target):
    desk = new_desk(target, seeded=True)
    desk.data("y", "answer" if target == "won" else "won")
    assert desk.trueline("init", "--source", "data.csv", "--target", target, "--time", "at").code == 0
    assert "Classifier" in (desk.folder / "model.py").read_text()
    said = desk.trueline("run", "--json")
    assert said.code == 0, said.err
    version = desk.trueline("versions", "--json").json["items"][0]
    assert (version["task"], version["state"]) == ("classification", "approved")
    assert version["metrics"]["log_loss"] < 0.69


def test_rows_without_a_time_are_split_by_their_order(new_desk):
    desk = new_desk("timeless", seeded=True)
    desk.data("won", "answer", "at", "id")
    assert desk.trueline("init", "--source", "data.csv", "--target", "y").code == 0
    said = desk.trueline("run", "--json")
    assert said.code == 0, said.err
    assert said.json["release"]["state"] == "promoted"
    assert desk.trueline("run", "--json").json["run"]["cached_from"] == "run-1"


@pytest.fixture(scope="module")
def up(started):
    """The same project, served by real processes."""
    return started.up()


@pytest.fixture(scope="module")
def answered(up) -> dict:
    """One request to /predict: what was sent and what came back."""
    rows = frame().select("x", "z", "color", "y").head(3).to_dicts()
    reply = up.ask("POST", "/predict", {"instances": [{k: v for k, v in row.items() if k != "y"} for row in rows]})
    assert reply.status == 200, reply.body
    return {"rows": rows, **reply.json}


def test_the_model_server_answers_with_the_released_version(answered):
    assert answered["version"] == 1
    assert len(set(answered["prediction_ids"])) == 3
    assert answered["predictions"] == pytest.approx([row["y"] for row in answered["rows"]], abs=1.5)


def test_open_inference_gives_the_same_numbers(up, answered):
    columns = {"x": "FP64", "z": "FP64", "color": "BYTES"}
    inputs = [
        {"name": name, "shape": [3], "datatype": kind, "data": [row[name] for row in answered["rows"]]}
        for name, kind in columns.items()
    ]
    (name,) = (
        model["name"] if isinstance(model, dict) else model for model in up.ask("GET", "/v2/models").json["models"]
    )
    for path in (f"/v2/models/{name}/infer", f"/v2/models/{name}/versions/1/infer"):
        reply = up.ask("POST", path, {"id": "42", "inputs": inputs})
        assert (reply.status, reply.json["id"], reply.json["model_version"]) == (200, "42", "1")
        assert reply.json["outputs"][0]["data"] == answered["predictions"]
    assert [up.ask("GET", f"/v2/health/{one}").status for one in ("live", "ready")] == [200, 200]
    metadata = up.ask("GET", f"/v2/models/{name}").json
    assert {one["name"] for one in metadata["inputs"]} == set(columns)


def test_metrics_are_told_by_version(up, answered):
    told = up.ask("GET", "/metrics").body.decode()
    assert answered["version"] == 1
    assert re.search(r'^trueline_inference_requests_total\{[^}]*version="1"[^}]*\} [1-9]', told, re.MULTILINE), told


def test_a_label_is_taken_once_and_why_finds_the_prediction(up, started, answered):
    prediction = answered["prediction_ids"][0]
    reply = up.ask("POST", "/labels", {"labels": [{"prediction_id": prediction, "value": answered["rows"][0]["y"]}]})
    assert (reply.status, reply.json["accepted"]) == (200, 1)
    found = started.trueline("why", prediction, "--json")
    assert found.code == 0, found.err
    links = {link["noun"]: link for link in found.json["links"]}
    assert links["prediction"]["sentence"].startswith(f"answered {answered['predictions'][0]} by version 1")
    assert (links["version"]["ref"], links["run"]["ref"], links["dataset"]["ref"]) == ("v1", "run-1", "d1")
    assert links["gate"]["sentence"].startswith("pass: ")
    assert re.fullmatch("[0-9a-f]{64}", links["code"]["ref"])


def test_commands_talk_to_the_running_server(up, started):
    assert up.process.poll() is None
    status = started.trueline("status", "--json").json
    assert (status["champion"], status["acknowledged"]) == (1, status["epoch"])


def test_the_next_run_learns_from_the_labelled_prediction(up, started):
    """One live row is too little to judge by, and the gate says so."""
    assert up.process.poll() is None
    before = started.trueline("status", "--json").json["dataset"]
    said = started.trueline("run", "--json")
    assert (said.code, said.json["gate"]["verdict"]) == (4, "inconclusive"), said.err
    assert said.json["run"]["cached_from"] is None
    assert said.json["run"]["dataset"] == before + 1
    assert "changed by feedback" in kinds(started, f"d{before + 1}")["dataset.version"]


def test_sigterm_ends_everything_and_what_was_answered_is_still_there(up, started, answered):
    family = descendants(up.pid)
    assert len(family) >= 4
    code, err = up.stop()
    assert (code, "Traceback" in err) == (0, False), err
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []
    assert not started.state.servers.exists()
    assert list(started.state.socket("any").parent.glob("*.sock")) == []
    found = started.trueline("why", answered["prediction_ids"][1], "--json")
    assert (found.code, found.json["noun"]) == (0, "prediction"), found.err


def descendants(pid: int) -> list[int]:
    """The processes below one, from /proc."""
    parents = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                stat = Path(entry.path, "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found, waiting = [], [pid]
    while waiting:
        above = waiting.pop()
        below = [child for child, parent in parents.items() if parent == above]
        found += below
        waiting += below
    return found
