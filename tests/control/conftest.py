import sys
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths

from trueline.clock import ManualClock
from trueline.control import runs
from trueline.control.releases import Scene
from trueline.domain.runs import RUNS, Purpose, RunEvent, RunState
from trueline.settings import StateFolder
from trueline.store import moves, tables
from trueline.store.engine import open_store


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def store(database, clock):
    opened = open_store(database, clock)
    yield opened
    opened.close()


@pytest.fixture
def scene(tmp_path):
    return Scene("p", StateFolder(tmp_path / "state"), None)


@pytest.fixture
def trained(store):
    """Train a version in one line."""

    def train(*, purpose=Purpose.manual, release=True):
        with store.begin() as tx:
            run = runs.start(
                tx,
                "p",
                purpose=purpose,
                entry="model.py:fit",
                params={},
                window_from=tx.now,
                cut_at=tx.now,
                release=release,
                actor="ada",
                reason="asked",
            )
            _, fence = moves.claim(
                tx,
                tables.runs,
                RUNS,
                RunEvent.claim,
                project="p",
                waiting=RunState.queued,
                busy=RunState.running,
                owner="w",
                lease=timedelta(minutes=1),
            )
            made = runs.Trained("sha256:0", "onnx", "regression", {"worst": 0.0}, {"mae": 1.0}, {})
            return runs.succeed(tx, run, fence, made, actor="w").number

    return train
