"""What a user does and sees: commands with their output and exit codes, files, and requests to the model server."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import polars as pl
import pytest

from trueline.cli.main import main
from trueline.settings import StateFolder

ON_POSTGRESQL = os.environ.get("TRUELINE_JOURNEYS") == "postgresql"
"""Whether the journeys' projects keep their rows there; `.ci/run` has them do both."""

no_database = pytest.mark.skipif(ON_POSTGRESQL, reason="ends before any database is looked at, whichever it would be")
server_alone = pytest.mark.skipif(ON_POSTGRESQL, reason="asks the model server, which looks at no database")

START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 600

MODEL = """\
import polars as pl
from sklearn.linear_model import LinearRegression

def fit(frame: pl.DataFrame, *, fit_intercept: bool = True):
    return LinearRegression(fit_intercept=fit_intercept).fit(frame.select("x", "z"), frame["y"])
"""


@dataclass
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def complaint(self) -> str:
        """The one sentence with which a command failed: the last line of stderr, and nothing of Python in it."""
        assert "Traceback" not in self.err + self.out
        last = self.err.rstrip("\n").splitlines()[-1]
        assert last.startswith("trueline: "), self.err
        assert self.err.count("trueline: ") == 1, self.err
        return last.removeprefix("trueline: ")


@dataclass
class Reply:
    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        assert b"Traceback" not in self.body
        return str(self.json["error"])


def frame(*, rows: int = ROWS, seed: int = 1) -> pl.DataFrame:
    """Rows over sixty days: a number and a yes or no that can be learnt from two numbers and a colour."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, rows))
    color = rng.choice(["red", "green", "blue"], size=rows)
    y = 10 + 3 * x - z + 2 * (color == "red") + rng.normal(scale=0.3, size=rows)
    chance = 1 / (1 + np.exp(-3 * x - 2 * (color == "red")))
    won = rng.random(rows) < chance
    return pl.DataFrame(
        {
            "id": np.arange(rows),
            "at": [(START + timedelta(days=60) * (i / rows)).replace(tzinfo=None, microsecond=0) for i in range(rows)],
            "x": x.round(4),
            "z": z.round(4),
            "color": color,
            "y": y.round(4),
            "won": won.astype(int),
            "answer": np.where(won, "yes", "no"),
        }
    )


class Desk:
    """A folder with a project in it, and the command line."""

    def __init__(self, folder: Path, new_database: Callable[[], str] | None = None) -> None:
        self.folder = folder
        self.new_database = new_database  # gives the URL of an empty one; None: SQLite in the state folder
        self.database = None if new_database is None else new_database()  # every project file made here names it
        self.state = StateFolder(folder / ".trueline")
        self._servers: list[subprocess.Popen[str]] = []

    def trueline(self, *arguments: object) -> Said:
        """One command in this process, as its exit code and its two streams."""
        os.chdir(self.folder)
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        terminated = signal.getsignal(signal.SIGTERM)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = main([str(argument) for argument in arguments])
        finally:
            signal.signal(signal.SIGTERM, terminated)
        if arguments[0] == "init" and code == 0:
            self.name_database()
        return Said(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def data(self, *drop: str, name: str = "data.csv", rows: int = ROWS) -> Path:
        path = self.folder / name
        frame(rows=rows).drop(*drop).write_csv(path)
        return path

    def project(self, model: str = MODEL, **changes: str) -> None:
        """A small project that trains in a moment."""
        facts = {"source": "data.csv", "target": "y", "time": "at", "entity": "id", **changes}
        lines = "".join(f"  {name}: {value}\n" for name, value in facts.items() if value)
        self.write("trueline.yaml", f"version: 1\nproject: desk\ndata:\n{lines}train: model.py:fit\n")
        self.name_database()
        self.write("model.py", model)

    def name_database(self) -> None:
        """Have the project file say where its rows are."""
        if self.database is not None:
            path = self.folder / "trueline.yaml"
            path.write_text(f"{path.read_text()}database: {self.database}\n")

    def up(self, *options: str) -> Up:
        command = [sys.executable, "-m", "trueline", "up", "--control-port", "0", "--serve-port", "0", "--json"]
        process = subprocess.Popen(
            [*command, *options], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._servers.append(process)
        return Up(process)

    def clear(self) -> None:
        for process in self._servers:
            if process.poll() is None:
                process.kill()
            process.communicate()


class Up:
    """A running `trueline up`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, process.communicate()[1]
        told = json.loads(first)
        self.control, self.serve, self.pid = told["control"], told["serve"], told["pid"]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """One request to the model server."""
        address = urlsplit(self.serve)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        try:
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, content, headers)
            reply = connection.getresponse()
            return Reply(reply.status, reply.read())
        finally:
            connection.close()

    def stop(self) -> tuple[int, str]:
        """SIGTERM, as a service manager ends it; its exit code and what it said."""
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err
