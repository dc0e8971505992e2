from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths

from loop_world import World


@pytest.fixture(scope="module")
def new_world(tmp_path_factory):
    """Make worlds; whatever runs in them is ended with the module."""
    worlds: list[World] = []

    def make(policy: str = "", worker_state: Path | None = None) -> World:
        worlds.append(World(tmp_path_factory.mktemp("world"), policy, worker_state))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()
