"""A loop whose database or disk is away: one sentence when it begins, one when it is over, and no end of the loop."""

from __future__ import annotations

import logging
import threading

import pytest

from trueline.errors import Unavailable
from trueline.processes import looping
from trueline.processes.looping import LONGEST_BACKOFF, Trouble, rounds


class Stopping(threading.Event):
    """Does not really wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout or 0.0)
        return self.is_set()


def test_an_outage_of_a_day_is_said_once_and_outlived(caplog):
    caplog.set_level(logging.INFO)
    stopping = Stopping()
    tries = 24 * 3600 // 5
    left = [tries]

    def step() -> bool:
        left[0] -= 1
        if left[0] > 0:
            raise Unavailable("the disk is full")
        stopping.set()
        return False

    rounds(step, lambda _: None, stopping, 0.5)
    assert [record.message for record in caplog.records] == [
        "the disk is full",
        f"it goes on again, after {tries - 1} tries",
    ]
    assert max(stopping.waited) == LONGEST_BACKOFF <= 5


def test_another_trouble_is_said_too_and_a_defect_with_its_traceback(caplog):
    stopping = Stopping()
    troubles = [Unavailable("one"), Unavailable("one"), Unavailable("two"), ZeroDivisionError(), Unavailable("two")]

    def step() -> bool:
        if not troubles:
            stopping.set()
            return False
        raise troubles.pop(0)

    rounds(step, lambda _: None, stopping, 0.5)
    said = [(record.message, bool(record.exc_info)) for record in caplog.records]
    assert said == [("one", False), ("two", False), ("a defect in trueline; trying again", True), ("two", False)]


@pytest.mark.parametrize("failures", [1, 5, 10, 5000])
def test_a_pause_grows_to_five_seconds_and_no_further(failures):
    trouble = Trouble()
    trouble.failures = failures
    assert trouble.pause == min(0.1 * 2 ** min(failures, 20), looping.LONGEST_BACKOFF)
