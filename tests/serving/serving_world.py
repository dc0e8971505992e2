"""A real server on loopback, in a thread of its own, with models that are a few lines of Python."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import uvloop

from trueline.domain import routes
from trueline.domain.contracts import Column, Kind
from trueline.domain.routes import Arm, Route, RouteTable
from trueline.errors import PackagingFailed, TruelineError
from trueline.journal import segments
from trueline.journal.records import Record
from trueline.packaging.signature import REGRESSION, Signature
from trueline.serving.children import Child
from trueline.serving.runners import InProcess, Runner
from trueline.serving.server import Config, Server

SIGNATURE = Signature((Column("x", Kind.float64), Column("n", Kind.integer, nullable=True)), "y", REGRESSION)

CHILD = """
import os, socket, sys, time
import numpy as np
from trueline.serving import child

class Executor:
    kind, in_process, signature = "fake", False, None
    def predict(self, columns):
        x = columns["x"]
        if 666 in x:
            os.abort()
        if 777 in x:
            time.sleep(60)
        if 444 in x:
            raise ValueError("I will not")
        if 888 in x:
            return np.zeros(len(x) + 1)
        return np.where(np.array(x) == 555, np.nan, np.array(x, dtype=float) * 100)

with socket.socket(fileno=int(sys.argv[1])) as pipe:
    child.serve(pipe, Executor())
"""


@dataclass
class Fake:
    """An executor: by default version v says x · v."""

    version: int
    function: Callable[[Any], Any] | None = None
    signature: Signature = SIGNATURE
    kind: str = "fake"
    in_process: bool = True

    def predict(self, columns: Any) -> Any:
        if self.function is not None:
            return self.function(columns)
        return np.array(columns["x"], dtype=float) * self.version


def table(epoch: int = 1, **changes: Any) -> RouteTable:
    """Version 1 has all the traffic of model m."""
    return replace(RouteTable(epoch, "m", (route(1),), salt="s"), **changes)


def route(version: int, arm: Arm = Arm.champion, weight: float = 1.0, digest: str = "") -> Route:
    return Route(version, arm, weight, f"/models/{version}", digest)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        assert b"Traceback" not in self.body
        return self.json["error"]


class Running:
    """A server that is up; what a test does with it is what a client could do."""

    def __init__(self, config: Config, models: dict[int, Fake | str]) -> None:
        self.config = config
        self.models = models
        self.server = Server(config, load=self._load)
        self.url = ""
        self._script = config.state.root / "child.py"
        self._script.write_text(CHILD)
        self._loop = uvloop.new_event_loop()
        self._finish = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._up: Future[str] = Future()
        self._down: Future[None] = Future()

    def start(self) -> None:
        self._thread.start()
        self.url = self._up.result(20)

    def stop(self) -> None:
        if self.url:
            self.url = ""
            self._loop.call_soon_threadsafe(self._finish.set)
            self._down.result(20)
            self._thread.join(20)

    def call(self, function: Callable[[], Any]) -> Any:
        """What a function gives inside the server's thread."""
        found: Future[Any] = Future()
        self._loop.call_soon_threadsafe(lambda: found.set_result(function()))
        return found.result(20)

    async def _life(self) -> None:
        try:
            self._up.set_result(await self.server.start())
        except TruelineError as problem:
            self._up.set_exception(problem)
            return
        await self._finish.wait()
        await self.server.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._down.set_result(self._loop.run_until_complete(self._life()))
        except Exception as problem:  # noqa: BLE001  the test shall see it
            self._down.set_exception(problem)
        finally:
            self._loop.close()

    async def _load(self, wanted: Route) -> Runner:
        model = self.models.get(wanted.version)
        if model is None or wanted.digest == "wrong":
            raise PackagingFailed(f"the model in {wanted.path} is not the one that was registered")
        if isinstance(model, Fake):
            return InProcess(wanted.version, model, self.server._scoreboard)

        def restarted() -> None:
            self.server.plane.metrics.restarts[wanted.version] += 1

        command = (sys.executable, str(self._script))
        child = Child(
            SIGNATURE,
            "fake",
            lambda descriptor: (*command, str(descriptor)),
            limits=self.config.limits,
            restarted=restarted,
        )
        await child.start()
        return child

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            given = {"Content-Type": "application/json"} | (headers or {})
            connection.request(method, path, data, given)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, names, response.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
        return self.request("POST", path, body, headers)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Reply:
        return self.request("GET", path, None, headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def raw(self, *pieces: bytes, half_close: bool = True) -> bytes:
        """Send the pieces as they are and read until the server closes."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    def admin(self, op: str, **fields: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(self.config.state.socket(f"serve-{self.config.replica}")))
            connection.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
            return json.loads(connection.makefile("rb").readline())

    def put(self, wanted: RouteTable, **fields: Any) -> dict[str, Any]:
        return self.admin("route", table=routes.encode(wanted), **fields)

    def records(self, kind: type[Record] | None = None) -> list[Any]:
        """What is in the journal, after the shadow scores that are owed."""
        if self.url:
            self.admin("status")
        found = [record for record, _ in segments.read(self.config.state.journal(self.config.replica))]
        return [record for record in found if kind is None or isinstance(record, kind)]

    def metric(self, name: str) -> float:
        """The sum of the samples whose name and labels start like this."""
        lines = self.get("/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while data := connection.recv(65536):
        parts.append(data)
    return b"".join(parts)


def eventually(holds: Callable[[], Any], seconds: float = 15.0) -> Any:
    """What `holds` gives once it is true; fails at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.005)
