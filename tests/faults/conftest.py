from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths
sys.path.append(str(Path(__file__).parents[1] / "serving"))
sys.path.append(str(Path(__file__).parents[1] / "shipping"))

from fault_scenes import scenes
from fault_world import World, effects

MEMORY = Path("/dev/shm")  # noqa: S108  renames cost nothing there


@pytest.fixture
def world():
    with _world() as made:
        yield made


@pytest.fixture(scope="module")
def story():
    """A world with the moments of its story, for tests that go back to them again and again."""
    with _world() as made:
        yield made, scenes(made)


@contextmanager
def _world() -> Iterator[World]:
    root = Path(tempfile.mkdtemp(prefix="faults-", dir=MEMORY if MEMORY.is_dir() else None))
    made = World(root / "state")
    with effects(made):
        yield made
    made.engine.dispose()
    shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(made.folder.sockets, ignore_errors=True)
