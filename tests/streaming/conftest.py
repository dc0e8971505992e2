"""A Kafka for all tests of the session, and a model server for each test."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths
sys.path.append(str(Path(__file__).parent.parent / "serving"))

import kafka_broker
from serving_world import Fake, Running, table
from streaming_world import Stream, Topics

from trueline.serving.limits import Limits
from trueline.serving.server import Config
from trueline.settings import StateFolder


@pytest.fixture
def serve(tmp_path):
    """Start model servers whose version 1 says x · 1."""
    started: list[Running] = []

    def start(model: Fake | None = None, *, port: int = 0, replica: str = "r0", **limits) -> Running:
        config = Config(
            state=StateFolder(tmp_path / "state").create(),
            port=port,
            replica=replica,
            limits=Limits(**{"sweep_seconds": 0.02, "linger_seconds": 0.2, **limits}),
        )
        running = Running(config, {1: model or Fake(1)})
        started.append(running)
        running.start()
        assert running.put(table())["ok"]
        return running

    yield start
    for running in started:
        running.stop()
        shutil.rmtree(running.config.state.socket("any").parent, ignore_errors=True)


@pytest.fixture
def broker():
    with kafka_broker.running() as process:
        yield process


@pytest.fixture
def topics(broker):
    return Topics(broker.servers)


@pytest.fixture
def stream(topics):
    """Start `trueline stream` towards a model server; killed at the end if it still runs."""
    started: list[Stream] = []

    def start(server: Running, *arguments: str) -> Stream:
        started.append(Stream(topics.servers, f"http://127.0.0.1:{server.port}", *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.popen.poll() is None:
            one.kill()
