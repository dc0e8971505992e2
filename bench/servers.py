"""Starting servers to be measured: pinned to one core, with one thread for numbers, and nothing left when they end."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
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
PATIENCE = 120.0
ONE_THREAD = {
    **os.environ,
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PYTHONDONTWRITEBYTECODE": "",  # what pip has installed has its bytecode, and so shall what runs from its source
}


class NotAnswering(Exception):
    """A server that did not start, or answers something else than a prediction; says which and what it said."""


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at the moment."""
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in bound]
    for one in bound:
        one.close()
    return ports


class Refused(NotAnswering):
    """A server that will not take the request whatever one waits."""


class Server:
    """A server's processes. Where no port is given, the first line on its standard output tells its address."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        python: str | Path = sys.executable,
        port: int | None = None,
        variables: Mapping[str, str] | None = None,
        folder: Path | None = None,
        state: StateFolder | None = None,
    ) -> None:
        self._state = state
        self._what = " ".join(command[:3])
        self.started = time.perf_counter()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed on exit; a pipe that nobody reads would fill up
        with cpu.pinned(CORE):
            self._process = subprocess.Popen(
                [str(python), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if port is None else self._said,
                stderr=self._said,
                env={**ONE_THREAD, **(variables or {})},
                cwd=folder,
            )
        self.pid = self._process.pid
        self.port = self._told_port() if port is None else port

    def _told_port(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise NotAnswering(f"{self._what} did not start: {self._last_words()}")
        return int(json.loads(line)["url"].rpartition(":")[2])

    def cpu_seconds(self) -> float:
        return cpu.of_tree(self.pid)

    def memory(self) -> float:
        """MiB."""
        return cpu.memory_of_tree(self.pid)

    def ask(self, body: bytes, path: str = "/predict") -> bytes:
        """One prediction over a new connection."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            return self.ask_over(connection, body, path)

    @staticmethod
    def ask_over(connection: http.client.HTTPConnection, body: bytes, path: str) -> bytes:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != http.client.OK:
            problem = Refused if answer.status in (400, 415, 422) else NotAnswering
            raise problem(f"the server answers {answer.status}: {said.decode(errors='replace')[:200]}")
        return said

    def first_answer(self, body: bytes, path: str) -> float:
        """Seconds from the start of the process to its first prediction; asks until there is one."""
        problem: Exception | None = None
        while (waited := time.perf_counter() - self.started) < PATIENCE:
            try:
                self.ask(body, path)
            except Refused:
                raise
            except (OSError, NotAnswering, http.client.HTTPException) as refused:
                problem = refused
            else:
                return time.perf_counter() - self.started
            if self._process.poll() is not None:
                raise NotAnswering(f"{self._what} ended with {self._process.returncode}: {self._last_words()}")
            time.sleep(0.005 if waited < 2 else 0.02)
        raise NotAnswering(f"{self._what} made no prediction in {PATIENCE:.0f} s: {problem}; {self._last_words()}")

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "it said nothing"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        children = cpu.tree(self.pid)[1:]
        self._process.terminate()
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        _end(children)
        self._said.close()
        if self._state is not None:
            shutil.rmtree(self._state.sockets, ignore_errors=True)  # it can lie outside the state folder


def _end(children: list[int]) -> None:
    """Kill what a server has left behind, once it had a moment to end by itself."""
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{one}").exists() for one in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    for one in children:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


@dataclass(frozen=True)
class Script:
    """A server from `peers/`, or the echo, in our own environment."""

    file: str
    model: Path | None = None

    def start(self) -> Server:
        return Server([str(HERE / self.file), *([str(self.model)] if self.model else [])])


@dataclass(frozen=True)
class Trueline:
    """`python -m trueline.serving` with one version in force from the start."""

    packaged: Packaged
    options: tuple[str, ...] = ()

    def start(self, folder: Path) -> Server:
        state = StateFolder(folder).create()
        route = Route(1, Arm.champion, 1.0, str(self.packaged.folder), self.packaged.digest)
        state.routes.write_text(routes.dumps(RouteTable(epoch=1, model="bench", routes=(route,))))
        command = ["-m", "trueline.serving", "--state", str(folder), "--port", "0", *self.options]
        return Server(command, state=state)
