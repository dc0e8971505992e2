"""The thread in which tracking is fed: a store that is slow or away makes nobody else wait.

It may be ended at any moment: what it was telling is told again by whoever comes next.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from trueline.errors import TruelineError

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
GRACE_SECONDS = 2.0


class Lane:
    """Runs `work_one` again and again, at once while it has something to do; a context manager of one thread."""

    def __init__(self, name: str, work_one: Callable[[], bool], *, poll: float = POLL_SECONDS) -> None:
        self._work_one = work_one
        self._poll = poll
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def nudge(self) -> None:
        """There is something to do."""
        self._awake.set()

    def stop(self, seconds: float = GRACE_SECONDS) -> bool:
        """Take up nothing more; whether what was under way ended in time. A thread that has not is left to die."""
        self._stopping.set()
        self._awake.set()
        with suppress(RuntimeError):  # it was never started
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._awake.clear()
            try:
                busy = self._work_one()
            except TruelineError as problem:  # the database was away; it is asked again
                log.warning("%s", problem)
                busy = False
            except Exception:
                log.exception("a defect in trueline; trying again")
                busy = False
            if not busy:
                self._awake.wait(self._poll)
