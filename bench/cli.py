"""What starting the command line costs: `--help`, and `status` with a server running and without."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cpu
import measurement
import polars as pl
from measurement import Measurement

from trueline.cli.up import answers, choose, url
from trueline.client import servers
from trueline.client.servers import Servers
from trueline.security import tokens
from trueline.settings import StateFolder

TRUELINE = str(Path(sys.executable).with_name("trueline"))
PROJECT = "version: 1\nproject: bench\ndata: {source: rows.csv, target: y, time: at, entity: id}\ntrain: model.py:fit\n"
PATIENCE = 60


def measure(quick: bool) -> Iterator[Measurement]:
    rounds = 1 if quick else 5
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as name:
        folder = Path(name)
        _write_project(folder)
        commands = {
            "--help": [TRUELINE, "--help"],
            "status, no server": [TRUELINE, "status", "--json"],
            "pass": [sys.executable, "-c", "pass"],
            "sqlalchemy": [sys.executable, "-c", "import sqlalchemy"],
        }
        best = _best(commands, folder, rounds)
        with control_running(folder):
            best |= _best({"status, server running": commands["status, no server"]}, folder, rounds)
    for claim, against, seconds in (
        ("--help", "pass", 0.15),
        ("status, server running", "pass", 0.15),
        ("status, no server", "sqlalchemy", 0.6),
    ):
        shown = {"pass": "python -c pass", "sqlalchemy": "python -c 'import sqlalchemy'"}[against]
        yield Measurement(
            claim=f"trueline {claim}",
            value=best[claim],
            unit="s CPU",
            against=f"{shown}, {measurement.number(best[against])} s",
            ratio=best[claim] / best[against],
            target=f"≤ {seconds} s",
            holds=best[claim] <= seconds,
            id="cli-start",
        )


def _best(commands: dict[str, list[str]], folder: Path, rounds: int) -> dict[str, float]:
    """CPU seconds of each command, in turns; the first round only warms the file cache and writes the byte code."""
    best = dict.fromkeys(commands, float("inf"))
    for number in range(rounds + 1):
        for name, command in commands.items():
            used = cpu.of_command(command, cwd=folder)
            if number:
                best[name] = min(best[name], used)
    return best


def _write_project(folder: Path) -> None:
    rows = {"id": [1, 2, 3], "at": ["2026-01-01", "2026-01-02", "2026-01-03"], "x": [0.1, 0.2, 0.3], "y": [1.0, 2.0, 3.0]}
    pl.DataFrame(rows).write_csv(folder / "rows.csv")
    (folder / "trueline.yaml").write_text(PROJECT)
    (folder / "model.py").write_text("def fit(frame):\n    raise NotImplementedError\n")


@contextmanager
def control_running(folder: Path) -> Iterator[None]:
    """The control process as `up` runs it, without its other children, which `status` does not ask."""
    state = StateFolder(folder / ".trueline").create()
    lock = servers.FolderLock(state)
    tokens.ensure(state.token)
    port = choose("127.0.0.1", 0)
    address = url("127.0.0.1", port)
    options = ["--state", str(state.root), "--project", str(folder / "trueline.yaml"), "--port", str(port)]
    command = [sys.executable, "-m", "trueline.processes.control", *options]
    process = subprocess.Popen(command, stdout=cpu.NULL, stderr=cpu.NULL)
    try:
        _until(lambda: answers(address, "/readyz"))
        servers.publish(state, Servers(address, address, process.pid))
        yield
    finally:
        process.terminate()
        process.wait(15)
        servers.withdraw(state)
        lock.release()


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the control process was not ready after {PATIENCE} s")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(measurement.script(__doc__, measure))
