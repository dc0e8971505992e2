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

LONGEST_BACKOFF = 10.0


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
    failures = 0
    while not stopping.is_set() and not orphaned(parent):
        try:
            busy = step()
            failures = 0
        except TruelineError as problem:
            log.warning("%s", problem)
            busy, failures = False, failures + 1
        except Exception:
            log.exception("a defect in trueline; trying again")
            busy, failures = False, failures + 1
        if failures:
            stopping.wait(min(0.1 * 2**failures, LONGEST_BACKOFF))
        elif not busy:
            wait(poll)


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
