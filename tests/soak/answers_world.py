"""A model server and a shipper to be killed again and again, and callers who write down every answer they see whole."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trueline.domain import routes
from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.domain.routes import Arm, Route, RouteTable
from trueline.errors import Unavailable
from trueline.journal import segments
from trueline.journal.records import LabelRecord, Record
from trueline.packaging import build
from trueline.settings import StateFolder
from trueline.sockets import ask

CONTRACT = Contract((Column("a", Kind.float64), Column("b", Kind.float64), Column("y", Kind.float64, role=Role.target)))
MANY_ROWS = 300  # of the largest request: a batch of some of them is many pages long, and a kill can tear its write
PATIENCE = 60.0
MODEL = "m"
VERSIONS = (1, 2, 3)


def package(folder: Path) -> RouteTable:
    """Three linear models: two that share the requests, and one that scores them in shadow."""
    from sklearn.linear_model import LinearRegression

    values = np.random.default_rng(1).normal(size=(60, 2))
    rows = pl.DataFrame({"a": values[:, 0], "b": values[:, 1]})
    target = values @ np.array([2.0, 1.0])
    found = []
    shares = {1: (Arm.champion, 0.5), 2: (Arm.canary, 0.5), 3: (Arm.shadow, 0.0)}
    for version, (arm, weight) in shares.items():
        made = build.package(
            LinearRegression().fit(rows, target * version),
            rows=rows,
            contract=CONTRACT,
            task="regression",
            folder=folder / str(version),
            created=datetime(2026, 1, 1, tzinfo=UTC),
        )
        found.append(Route(version, arm, weight, str(made.folder), made.digest))
    return RouteTable(1, MODEL, tuple(found), release="release-1", salt="s")


@dataclass(frozen=True)
class Told:
    """What an answer said, and what it was an answer to."""

    request_id: str
    unit: str
    version: int
    asked_version: int | None
    rows: list[dict[str, float]]
    outputs: list[float]
    sent_us: int
    heard_us: int


class Life:
    """One process of the server, from its start to its death."""

    def __init__(self, state: StateFolder) -> None:
        self.state = state
        command = [sys.executable, "-m", "trueline.serving", "--state", str(state.root), "--port", "0"]
        with (state.root / "serve.log").open("ab") as log:
            self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def port(self) -> int:
        """Where it listens, once it does."""
        line = self.popen.stdout.readline()
        assert line, (self.state.root / "serve.log").read_text()[-2000:]
        return int(json.loads(line)["url"].rpartition(":")[2])

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self.popen.stdout.close()

    def terminate(self) -> None:
        self.popen.send_signal(signal.SIGTERM)


class Caller(threading.Thread):
    """Asks on one kept-alive connection, several requests at once, in every form; goes to the next life after a death."""

    def __init__(self, name: str, world: World, luck: random.Random) -> None:
        super().__init__(name=name, daemon=True)
        self._world = world
        self._luck = luck
        self._asked = 0
        self._unlabelled: list[str] = []
        self.told: list[Told] = []
        self.labels: dict[str, tuple[str, float]] = {}
        self.other: dict[int, int] = {}  # answers that are not 200, by status
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while (port := self._world.wait_for_life()) is not None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                    self._talk(connection)
        except BaseException as problem:  # noqa: BLE001  the test raises it
            self.error = problem

    def _talk(self, connection: socket.socket) -> None:
        answers = _answers(connection)
        while not self._world.over.is_set():
            asked = [self._draw() for _ in range(self._luck.choice((1, 1, 1, 2, 5)))]
            sent_us = time.time_ns() // 1000
            connection.sendall(b"".join(wire for wire, _ in asked))
            for _, understand in asked:
                status, headers, body = next(answers)
                if status == 200:
                    understand(headers, body, sent_us)
                    self._world.heard_one()
                else:
                    self.other[status] = self.other.get(status, 0) + 1

    def _draw(self):
        self._asked += 1
        kind = self._luck.choice(("one", "one", "one", "some", "many", "tensors", "pinned", "label"))
        if kind == "label" and self._unlabelled:
            return self._label()
        rows = {"some": 7, "many": MANY_ROWS}.get(kind, 1 + self._luck.randrange(3))
        unit = f"{self.name}-{self._asked}"
        asked = [{"a": self._luck.uniform(-9, 9), "b": float(self._asked)} for _ in range(1 if kind == "one" else rows)]
        version = self._luck.choice(VERSIONS) if kind == "pinned" else None
        if kind in ("tensors", "pinned"):
            path = f"/v2/models/{MODEL}{'' if version is None else f'/versions/{version}'}/infer"
            body = {"id": unit, "inputs": [tensor(name, asked) for name in ("a", "b")]}
        else:
            path, body = "/predict", asked[0] if kind == "one" else {"instances": asked}

        def understand(headers: dict[str, str], answer: bytes, sent_us: int) -> None:
            found = json.loads(answer)
            if path == "/predict":
                outputs, told_version = found["predictions"], found["version"]
                assert found["prediction_ids"] == [f"{headers['trueline-request-id']}-{n}" for n in range(len(asked))]
                self._unlabelled.append(found["prediction_ids"][0])
            else:
                outputs, told_version = found["outputs"][0]["data"], int(found["model_version"])
            heard_us = time.time_ns() // 1000
            request_id = headers["trueline-request-id"]
            self.told.append(Told(request_id, unit, told_version, version, asked, outputs, sent_us, heard_us))

        return request(path, body, unit), understand

    def _label(self):
        prediction_id = self._unlabelled.pop(self._luck.randrange(len(self._unlabelled)))
        value = float(self._asked)

        def understand(headers: dict[str, str], answer: bytes, sent_us: int) -> None:
            del headers, sent_us
            for label_id in json.loads(answer)["label_ids"]:
                self.labels[label_id] = (prediction_id, value)

        return request("/labels", {"prediction_id": prediction_id, "value": value}, ""), understand


def tensor(name: str, rows: list[dict[str, float]]) -> dict[str, Any]:
    return {"name": name, "datatype": "FP64", "shape": [len(rows), 1], "data": [row[name] for row in rows]}


def request(path: str, body: Any, name: str) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return f"{head}X-Request-Id: {name}\r\n\r\n".encode() + data


def _answers(connection: socket.socket) -> Iterator[tuple[int, dict[str, str], bytes]]:
    """Whole answers as they come; OSError when the server is gone, whatever it has begun to say."""
    received = b""
    while True:
        while b"\r\n\r\n" not in received:
            received += _more(connection)
        head, _, received = received.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers["content-length"])
        while len(received) < length:
            received += _more(connection)
        body, received = received[:length], received[length:]
        yield int(first.split()[1]), headers, body


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(1 << 16)
    if not part:
        raise ConnectionResetError
    return part


@dataclass
class World:
    """The state folder, who lives on it, and how many times they died."""

    state: StateFolder
    table: RouteTable
    luck: random.Random
    life: Life | None = None
    over: threading.Event = field(default_factory=threading.Event)
    torn: int = 0  # tails that a kill has left torn
    _port: int | None = None
    _heard: int = 0  # answers
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def journal(self) -> Path:
        return self.state.journal("r0")

    def start(self) -> None:
        """Begin a life; callers hear of it."""
        self.life = Life(self.state)
        self._announce(self.life.port())

    def kill(self) -> None:
        self.life.kill()
        self._announce(None)
        self.torn += torn_tail(self.journal) > 0

    def wait_for_life(self) -> int | None:
        """The port of the life that is; None when there are no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._port is not None or self.over.is_set(), timeout=PATIENCE)
            return None if self.over.is_set() else self._port

    def heard_one(self) -> None:
        with self._changed:
            self._heard += 1
            self._changed.notify_all()

    def wait_for_answers(self, more: int) -> None:
        with self._changed:
            wanted = self._heard + more
            assert self._changed.wait_for(lambda: self._heard >= wanted, timeout=PATIENCE), "nobody was answered"

    def end(self) -> None:
        self.over.set()
        self._announce(None)
        if self.life is not None and self.life.popen.poll() is None:
            self.life.kill()

    def route(self) -> None:
        ask(self.state.socket("serve-r0"), {"op": "route", "table": routes.encode(self.table)})

    def _announce(self, port: int | None) -> None:
        with self._changed:
            self._port = port
            self._changed.notify_all()

    def leave_a_torn_tail(self) -> None:
        """What a power cut or an interrupted write leaves: the beginning of a batch that nobody was told of."""
        newest = segments.path_of(self.journal, segments.numbers(self.journal)[-1])
        whole = segments.frame(_encoded(LabelRecord("never", "never", 1.0, 1, 1, "never", None)))
        with newest.open("ab") as file:
            file.write(whole[: self.luck.randrange(1, len(whole))])


def torn_tail(folder: Path) -> int:
    """Bytes behind the last whole frame of the open segment."""
    present = segments.numbers(folder)
    if not present:
        return 0
    end = 0
    for _, cursor in segments.read(folder, segments.Cursor(present[-1], 0)):
        end = cursor.offset
    return segments.path_of(folder, present[-1]).stat().st_size - end


def _encoded(record: Record) -> bytes:
    from trueline.journal import records

    return records.encode(record)


class Shipping(threading.Thread):
    """A shipper at work beside the server, killed and started again until told to stop."""

    def __init__(self, world: World, luck: random.Random, *, deleting: bool = False) -> None:
        super().__init__(name="shipping", daemon=True)
        self._world = world
        self._luck = luck
        self._deleting = deleting
        self.stopping = threading.Event()
        self.kills = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                with shipper(self._world.state) as process:
                    self._ask_and_kill(process)
                self.kills += 1
                self.stopping.wait(self._luck.uniform(0, 4))
        except BaseException as problem:  # noqa: BLE001  the test raises it
            self.error = problem

    def _ask_and_kill(self, process: subprocess.Popen[bytes]) -> None:
        """Have it ship, and kill it while it does, or a moment after it was asked."""
        asking = threading.Thread(target=self._ask, daemon=True)
        asking.start()
        asking.join(self._luck.uniform(0.0, 0.4))
        process.kill()
        asking.join(PATIENCE)

    def _ask(self) -> None:
        with suppress(Unavailable):
            ask(self._world.state.socket("shipper-r0"), self.message, timeout=PATIENCE)

    @property
    def message(self) -> dict[str, Any]:
        return {"op": "ship", "read_through": 2**62} if self._deleting else {"op": "ship"}


class shipper:  # noqa: N801  used like a function
    """A shipper that answers; it is killed at the end."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state

    def __enter__(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "trueline.shipping", "--state", str(self._state.root)]
        environment = os.environ | {"POLARS_MAX_THREADS": "1", "TOKIO_WORKER_THREADS": "1"}
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        path = self._state.socket("shipper-r0")
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                ask(path, {"op": "ping"})
            except Unavailable:
                assert self._process.poll() is None, "the shipper ended by itself"
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
