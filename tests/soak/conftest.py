"""Real processes to be killed; what tests do with them is in kill_world.py."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths

from kill_world import World


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A small project with `trueline up` on it; nothing of it is left afterwards."""
    made = World.make(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(made.temp))  # sockets are there, and go with it
    yield made
    made.end()
