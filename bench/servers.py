"""Starting servers to be measured: pinned to one core, with what they need in a folder of their own."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import cpu
from trueline.domain import routes
from trueline.domain.routes import Arm, Route, RouteTable
from trueline.packaging.build import Packaged
from trueline.settings import StateFolder

CORE = 0
HERE = Path(__file__).parent
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


class Server:
    """A server process; the first line on its standard output tells its address."""

    def __init__(self, command: list[str], *, state: StateFolder | None = None) -> None:
        self._state = state
        self.started = time.perf_counter()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed on exit; a pipe that nobody reads would fill up
        with cpu.pinned(CORE):
            self._process = subprocess.Popen(
                [sys.executable, *command], stdout=subprocess.PIPE, stderr=self._said, env=ONE_THREAD, text=True
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            raise RuntimeError(f"{' '.join(command)} did not start: {self._said.read().decode()}")
        self.port = int(json.loads(line)["url"].rpartition(":")[2])
        self.pid = self._process.pid

    def cpu_seconds(self) -> float:
        return cpu.of_tree(self.pid)

    def ask(self, body: bytes) -> bytes:
        """One prediction over a new connection."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != http.client.OK:
                raise RuntimeError(f"the server answers {answer.status}: {said.decode()[:200]}")
            return said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._said.close()
        if self._state is not None:
            shutil.rmtree(self._state.sockets, ignore_errors=True)  # it can lie outside the state folder


@dataclass(frozen=True)
class Peer:
    """A server from this folder."""

    file: str
    model: Path | None = None

    def start(self) -> Server:
        return Server([str(HERE / self.file), *([str(self.model)] if self.model else [])])


@dataclass(frozen=True)
class Trueline:
    """`python -m trueline.serving` with one version in force from the start."""

    folder: Path
    packaged: Packaged

    def start(self) -> Server:
        state = StateFolder(self.folder).create()
        route = Route(1, Arm.champion, 1.0, str(self.packaged.folder), self.packaged.digest)
        state.routes.write_text(routes.dumps(RouteTable(epoch=1, model="bench", routes=(route,))))
        return Server(["-m", "trueline.serving", "--state", str(self.folder), "--port", "0"], state=state)
