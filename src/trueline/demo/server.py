"""A work folder with a copy of the demo's project, and `trueline up` running in it."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from trueline.client.servers import Servers
from trueline.demo.flights import Flights
from trueline.errors import InvalidProject, Unavailable
from trueline.settings import StateFolder

PATIENCE = 60.0  # seconds until the servers are up
GRACE = 15.0  # seconds for them to end
PROJECT = ("trueline.yaml", "model.py", "leaky.py", "kilometres.py")


@dataclass(frozen=True)
class Work:
    """Where a run of the demo lives."""

    folder: Path

    @property
    def state(self) -> StateFolder:
        return StateFolder(self.folder / ".trueline")

    @property
    def stderr(self) -> Path:
        return self.folder / "up.log"


def project_folder() -> Path:
    """The demo's project: shipped inside the package, or in the clone that the package was installed from."""
    here = Path(__file__).resolve().parent
    for folder in (here / "project", here.parents[2] / "demo"):
        if (folder / "trueline.yaml").is_file():
            return folder
    raise InvalidProject("the demo's project folder is not there; run `trueline demo` from a clone of the repository")


def prepare(folder: Path, flights: Flights) -> Work:
    """Copy the project as a user would have it, with January as its data."""
    project = project_folder()
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for name in PROJECT:
        shutil.copy(project / name, folder / name)
    flights.january.write_parquet(folder / "data" / "january.parquet")
    return Work(folder)


class Server:
    """`trueline up --replay` as a child process: ports chosen by the kernel, ended by SIGTERM."""

    def __init__(self, work: Work) -> None:
        self._work = work
        options = ["--project", str(work.folder / "trueline.yaml"), "--state", str(work.state.root)]
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
                start_new_session=True,  # an interrupt at the terminal is the demo's to handle
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
