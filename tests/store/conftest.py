import pytest

from trueline.clock import ManualClock
from trueline.store.engine import open_store


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def store(database, clock):
    opened = open_store(database, clock)
    yield opened
    opened.close()
