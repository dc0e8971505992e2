"""A work folder with a project in it, and `trueline up --replay` running there."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from trueline.client.servers import Servers
from trueline.errors import Unavailable
from trueline.settings import StateFolder

PATIENCE = 60.0  # seconds until the servers are up
GRACE = 15.0  # seconds for them to end


@dataclass(frozen=True)
class Work:
    """Where a replay lives."""

    folder: Path

    @property
    def state(self) -> StateFolder:
        return StateFolder(self.folder / ".trueline")

    @property
    def stderr(self) -> Path:
        return self.folder / "up.log"


class Server:
    """`trueline up --replay` as a child process: ports chosen by the kernel, ended by SIGTERM."""

    def __init__(self, work: Work, project: str = "trueline.yaml", target: str | None = None) -> None:
        self._work = work
        options = ["--project", str(work.folder / project), "--state", str(work.state.root)]
        options += ["--target", target] if target else []
        command = [
            sys.executable,
            "-m",
            "trueline",
            "up",
            *options,
            "--control-port",
            "0",
            "--serve-port",
            "0",
            "--replay",
            "--json",
        ]
        with work.stderr.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=work.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # an interrupt at the terminal is the replay's to handle
                # one thread each is faster for models of this size, and leaves the second core to the others
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> Servers:
        """The addresses, once it answers."""
        line = self._first_line(self._process.stdout)
        if not line:
            code = self._process.poll()
            last = self._last_words()
            what = "did not come up in time" if code is None else f"ended with exit code {code}"
            raise Unavailable(f"`trueline up` {what}; it said: {last or 'nothing'}")
        return msgspec.json.decode(line, type=Servers)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _first_line(self, out: IO[bytes] | None) -> bytes:
        if out is None:
            return b""
        deadline = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as waiting:
            waiting.register(out, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0 and self._process.poll() is None:
                if waiting.select(min(left, 0.2)):
                    return out.readline() or self._ended()
        return b""

    def _ended(self) -> bytes:
        """It closed its output without a word: its exit code is there in a moment."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return b""

    def _last_words(self) -> str:
        lines = [line for line in self._work.stderr.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""
