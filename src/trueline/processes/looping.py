"""What control and worker share as processes: a loop that is woken or polls, survives trouble, and ends on SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from trueline.errors import TruelineError

log = logging.getLogger("trueline")

LONGEST_BACKOFF = 5.0
"""Seconds: what comes back (a database, room on a disk) is found again in this time."""


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set; must be called from the main thread."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


def orphaned(parent: int) -> bool:
    """Whether the supervisor that started this process is gone."""
    return os.getppid() != parent


def rounds(step: Callable[[], bool], wait: Callable[[float], object], stopping: threading.Event, poll: float) -> None:
    """Call `step` until told to stop; again at once when it did something, else after a ring or `poll` seconds.

    This is the edge of a loop: what goes wrong in one round is said and tried again later, and never ends the process.
    """
    parent = os.getppid()
    trouble = Trouble()
    while not stopping.is_set() and not orphaned(parent):
        busy = False
        try:
            busy = step()
        except TruelineError as problem:
            trouble.met(str(problem))
        except Exception:
            log.exception("a defect in trueline; trying again")
            trouble.met(None)
        else:
            trouble.over()
        if trouble.failures:
            stopping.wait(trouble.pause)
        elif not busy:
            wait(poll)


class Trouble:
    """What keeps a loop from its work: said once, not at each try, and said again when it is over."""

    def __init__(self) -> None:
        self.failures = 0
        self._said: str | None = None

    @property
    def pause(self) -> float:
        return min(0.1 * 2.0 ** min(self.failures, 10), LONGEST_BACKOFF)

    def met(self, sentence: str | None) -> None:
        self.failures += 1
        if sentence is not None and sentence != self._said:
            log.warning("%s", sentence)
        self._said = sentence

    def over(self) -> None:
        if self._said is not None and self.failures > 1:
            log.info("it goes on again, after %d tries", self.failures)
        self.failures, self._said = 0, None


def log_to_stderr() -> None:
    """One line per message, with the time in UTC."""
    logging.Formatter.converter = time.gmtime
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its plug-ins announce themselves at every start
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)sZ %(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
