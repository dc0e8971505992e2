"""Fresh processes for user code, several at a time: the worker's end of the nursery.

The nursery is started with the first process, or before by `warm`. When it dies, so do its processes; `wait` then says
`Unavailable`, and the next start begins a new one.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from trueline.errors import Unavailable
from trueline.pipelines import nursery

START_SECONDS = 60.0
GONE = "the process that trainings start from has died; the run can be started again"


class Processes:
    """One worker's processes; for one thread, save that `close` may come from another. A context manager."""

    def __init__(self) -> None:
        self.nursery: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._jobs = 0
        self._pending = b""

    def warm(self) -> None:
        """Start the nursery now, so that the first process does not wait for its imports."""
        if self.nursery is None or self.nursery.poll() is not None:
            self.close()
            self._ready, self._pending = False, b""
            self.nursery = subprocess.Popen(
                [sys.executable, "-m", "trueline.pipelines.nursery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **nursery.ENVIRONMENT},
                start_new_session=True,
            )

    def start(self, module: str, spec: Path) -> int:
        """Run that module's `main` on the spec file; the number by which `wait` and `kill` know it."""
        self.warm()
        if not self._ready:
            if not self._lines(START_SECONDS):
                self.close()
                raise Unavailable(f"no training process has started within {START_SECONDS:g} s")
            self._ready = True
        self._jobs += 1
        self._say(f"start {self._jobs} {module} {spec}")
        return self._jobs

    def wait(self, seconds: float) -> dict[int, int]:
        """The exit codes of those that have ended, at the latest after so long; negative is the signal that killed it."""
        found = (line.split() for line in self._lines(seconds))
        return {int(job): int(code) for job, code in found}

    def kill(self, job: int) -> None:
        """End that process and everything it started; `wait` tells when it is gone."""
        self._say(f"kill {job}")

    def close(self) -> None:
        """End the nursery and whatever runs in it."""
        process, self.nursery = self.nursery, None
        if process is None:
            return
        _close(process.stdin)  # the end of its input has it kill every process with what that started
        try:
            process.wait(timeout=5 if self._ready else 0)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _close(process.stdout)  # last: another thread may be waiting for it, and has now seen its end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _say(self, line: str) -> None:
        process = self.nursery
        if process is None or process.stdin is None:  # closed meanwhile, by the thread that found the lease lost
            raise Unavailable(GONE)
        try:
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise Unavailable(GONE) from None

    def _lines(self, seconds: float) -> list[str]:
        """Whole lines as soon as there is one; none when the time is up."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._pending:
            process = self.nursery
            if process is None or process.stdout is None:
                raise Unavailable(GONE)
            try:
                readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
                if not readable:
                    return []
                chunk = os.read(process.stdout.fileno(), 4096)
            except (ValueError, OSError):  # closed meanwhile, as above
                raise Unavailable(GONE) from None
            if not chunk:
                raise Unavailable(GONE)
            self._pending += chunk
        *lines, self._pending = self._pending.split(b"\n")
        return [line.decode() for line in lines]


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        with contextlib.suppress(OSError):  # closing flushes what nobody reads any more
            stream.close()
