"""A real server on loopback, in a thread of its own; what tests do with it is in serving_world.py."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from trueline.domain.routes import RouteTable
from trueline.serving.limits import Limits
from trueline.serving.server import Config
from trueline.settings import StateFolder

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths

from serving_world import Fake, Running


@pytest.fixture
def serve(tmp_path):
    """Start servers: `serve({version: Fake | "child"}, table, **limits)`; they are stopped at the end."""
    started: list[Running] = []

    def start(
        models: dict[int, Fake | str] | None = None,
        wanted: RouteTable | None = None,
        *,
        replay: bool = False,
        host: str = "127.0.0.1",
        **limits: Any,
    ) -> Running:
        config = Config(
            state=StateFolder(tmp_path / "state").create(),
            port=0,
            host=host,
            replay=replay,
            limits=Limits(**{"sweep_seconds": 0.02, "linger_seconds": 0.2, **limits}),
        )
        running = Running(config, models or {1: Fake(1)})
        started.append(running)
        running.start()
        if wanted is not None:
            assert running.put(wanted)["ok"]
        return running

    yield start
    for running in started:
        running.stop()
        shutil.rmtree(running.config.state.socket("any").parent, ignore_errors=True)
