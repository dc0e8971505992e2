"""A worker that is killed in the middle of a pipeline: another goes on, and nothing finished is done twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trueline.client import Client
from trueline.settings import StateFolder

PROJECT = """\
version: 1
project: steps
data: {source: rows.csv, target: y}
train: pipeline.py:training
retrain: {rehearse: off}
"""

pytestmark = pytest.mark.real

PIPELINE = """\
import os
import pathlib

from sklearn.linear_model import LinearRegression
from trueline import pipeline, step

HERE = pathlib.Path(__file__).parent


def done(name):
    with open(HERE / "count", "a") as file:
        file.write(name + " ")


@step
def prepare(frame) -> "tuple[DataFrame, Series]":
    done("prepare")
    return frame.select("x"), frame["y"]


@step
def straight(features, target):
    done("straight")
    return LinearRegression().fit(features, target)


@step
def held(features, target):
    print("held", flush=True)
    with open(HERE / "gate") as gate:  # the test opens the other end
        gate.read()
    done("held")
    return LinearRegression(positive=True).fit(features, target)


@step
def choose(models):
    done("choose")
    return models[0]


@pipeline
def training(frame):
    features, target = prepare(frame)
    return choose([straight(features, target), held(features, target)])
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "trueline.yaml").write_text(PROJECT)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    lines = [f"{row / 10},{row / 5 + row % 3 / 10}" for row in range(80)]
    (tmp_path / "rows.csv").write_text("x,y\n" + "\n".join(lines) + "\n")
    os.mkfifo(tmp_path / "gate")
    return tmp_path


@pytest.fixture
def worker(project: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Start workers; each leads a session, so that one can be killed with what it started, or alone."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "trueline.processes.worker", "--state", str(project / ".trueline")]
        with (project / "worker.log").open("ab") as log:
            started.append(subprocess.Popen([*command, "--project", str(project / "trueline.yaml")], stderr=log))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.05)


@pytest.mark.slow
def test_another_worker_goes_on_where_a_killed_one_was(
    project: Path, worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    with Client.local(project / "trueline.yaml", StateFolder(project / ".trueline")) as client:
        run = client.start_run(release=False)
        first = worker()

        def states() -> dict[str, str]:
            return {step.name: step.state for step in client.steps(run.id).items}

        until(lambda: states().get("straight") == "succeeded" and "held" in printed(client, run.id))
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert states() == {"prepare": "succeeded", "straight": "succeeded", "held": "running", "choose": "waiting"}
        worker()
        claims = lambda: [one for one in client.events(kind="step.claim").items if one.ref == f"{run.id}:held"]  # noqa: E731
        until(lambda: len(claims()) == 2)  # the second worker has it, so what the first one started is gone
        with (project / "gate").open("w"):
            pass
        until(lambda: client.run(run.id).state not in {"queued", "running"})
        ended = client.run(run.id)
        assert ended.state == "succeeded", ended.error
        assert sorted((project / "count").read_text().split()) == ["choose", "held", "prepare", "straight"]
        assert ended.version == 1
        noun = [link.ref for link in client.why(1).links if link.noun == "step"]
        assert noun == [f"{run.id}:{name}" for name in ("prepare", "straight", "held", "choose")]
        told = client.why_cached(run.id)
        assert [step.sentence for step in told.steps] == ["run: no step of that name came before it"] * 4


def printed(client: Client, run: str) -> str:
    return "".join(chunk.text for chunk in client.logs(run).items)
