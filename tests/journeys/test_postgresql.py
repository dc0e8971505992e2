"""The same first hour with `database:` in the project file: every command, real processes, and one that is killed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from journey import MODEL, ON_POSTGRESQL, Desk

# MLflow 3.17 on SQLAlchemy 2.1
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(ON_POSTGRESQL, reason="is on PostgreSQL by itself, and has run"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]

DATABASE = "\ndatabase: env:DATABASE_URL\n"
STUCK = """\
from pathlib import Path
import time

def fit(frame):
    Path("training").touch()
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def url(postgresql, shared_postgresql):
    postgresql.empty(shared_postgresql)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", shared_postgresql)
        yield shared_postgresql


@pytest.fixture(scope="module")
def started(new_desk, url) -> Desk:
    desk = new_desk("shared", seeded=True)
    assert url
    desk.data("won", "answer", "color")
    said = desk.trueline("init", "--source", "data.csv", "--target", "y", "--time", "at", "--entity", "id")
    assert said.code == 0, said.err
    desk.write("model.py", MODEL)
    project = desk.folder / "trueline.yaml"
    project.write_text(project.read_text().rstrip() + DATABASE)
    said = desk.trueline("run", "--json")
    assert said.code == 0, said.err
    assert (said.json["gate"]["verdict"], said.json["release"]["state"]) == ("pass", "promoted")
    return desk


def test_rows_are_in_the_database_and_none_in_the_state_folder(started):
    assert not started.state.database.exists()
    status = started.trueline("status", "--json").json
    assert (status["champion"], status["idle"]) == (1, True)
    assert "version 1 serves" in started.trueline("status").out
    kinds = [one["kind"] for one in started.trueline("events", "--json").lines]
    assert kinds[:2] == ["project.set", "run.create"]
    assert "release.promote" in kinds


def test_every_command_that_asks_works(started):
    for ref in ("1", "run-1", "gate-1", "release-1"):
        assert started.trueline("why", ref, "--json").code == 0
    for command in ("runs", "versions", "events", "status"):
        said = started.trueline(command, "--json")
        assert (said.code, said.err) == (0, ""), said.err
    assert started.trueline("run", "--json").json["run"]["cached_from"] == "run-1"


def test_a_wrong_password_and_a_missing_variable_are_one_sentence(started, url, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", url.replace("s3cret", "wr0ng"))
    said = started.trueline("status")
    assert said.code == 6
    assert "refused to let trueline in" in said.complaint
    assert "wr0ng" not in said.err
    monkeypatch.delenv("DATABASE_URL")
    said = started.trueline("status")
    assert said.code == 2
    assert "DATABASE_URL is not set" in said.complaint


def test_a_killed_run_does_not_hold_up_the_next(started):
    """Its lease would last for half a minute; that its process is gone is known at once."""
    model = (started.folder / "model.py").read_text()
    started.write("model.py", STUCK)
    killed = subprocess.Popen(
        [sys.executable, "-m", "trueline", "run", "--quiet"], cwd=started.folder, stderr=subprocess.DEVNULL
    )
    waiting = subprocess.TimeoutExpired
    for _ in range(600):
        if (started.folder / "training").exists():
            break
        with pytest.raises(waiting):
            killed.wait(0.1)
    killed.kill()
    killed.wait()
    started.write("model.py", model)
    said = started.trueline("run", "--json", "--timeout", "25")
    assert said.code == 0, said.err
    taken = [one for one in started.trueline("events", "--json").lines if one["kind"] == "run.claim"]
    assert "taken over: its holder is gone or silent" in [one["reason"] for one in taken]


def test_it_is_served_released_and_rolled_back_by_real_processes(started):
    up = started.up()
    assert up.ask("POST", "/predict", {"instances": [{"x": 0.5, "z": 0.1}]}).json["version"] == 1
    said = started.trueline("run", "--json", "--param", "fit_intercept=false")
    version = said.json["run"]["version"]
    said = started.trueline("release", version, "--waive", "--reason", "to be taken back", "--json")
    assert said.code == 0, said.err
    release = said.json["id"]
    for _ in range(300):
        state = started.trueline("status", "--json").json["release"]
        if state is not None and state["id"] == release and state["state"] in {"shadow", "canary"}:
            break
        with pytest.raises(subprocess.TimeoutExpired):
            up.process.wait(0.1)
    said = started.trueline("rollback", "--reason", "it was a test", "--json")
    assert (said.code, said.json["version"]) == (0, 1), said.err
    assert said.json["rollback_ms"] is not None
    assert up.ask("POST", "/predict", {"instances": [{"x": 0.5, "z": 0.1}]}).json["version"] == 1
    code, err = up.stop()
    assert (code, "Traceback" in err) == (0, False), err
    assert os.environ["DATABASE_URL"] not in err
