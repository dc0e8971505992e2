import pytest

from trueline.clock import ManualClock
from trueline.store.engine import open_sqlite


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def store(tmp_path, clock):
    opened = open_sqlite(tmp_path / "control.db", clock)
    yield opened
    opened.close()
