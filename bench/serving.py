"""serve-throughput, serve-echo, rollback: the real serving process, its journal, contract and metrics on.

One process on one core, the load on another. Figures are per second of the server's CPU time, so a slow or busy machine
changes them less than requests per second. The echo is a bare Protocol on the same libraries, measured in the same run.
The peers of DESIGN.md §7 are not installed here yet.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import models
from figures import Figure, cpu_of, pin, tell
from trueline.domain import routes
from trueline.settings import StateFolder
from trueline.sockets import ask

HERE = Path(__file__).parent
SECONDS = 5.0
CONNECTIONS = 32
SWAPS = 20
BODY = json.dumps({"instances": [dict.fromkeys(models.NAMES, 0.25)]})


@contextmanager
def started(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server and its address, which is in the first line it prints."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=HERE)
    try:
        pin(process.pid, 0)
        line = process.stdout.readline().strip() if process.stdout else ""
        yield process, json.loads(line)["url"] if line.startswith("{") else line
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout:
            process.stdout.close()


def serving(state: StateFolder) -> list[str]:
    return [sys.executable, "-m", "trueline.serving", "--state", str(state.root), "--replica", "r0", "--port", "0"]


def start_load(url: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "load.py"), url, "/predict", BODY, str(CONNECTIONS), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    pin(process.pid, 1)
    return process


def end_load(process: subprocess.Popen[str]) -> dict[str, float]:
    told: dict[str, float] = json.loads(process.communicate(timeout=120)[0])
    return told


def per_cpu_second(command: list[str]) -> float:
    """Answers per second of the server's CPU, after a warm-up."""
    with started(command) as (process, url):
        end_load(start_load(url, 1.0))
        before = cpu_of(process.pid)
        told = end_load(start_load(url, SECONDS))
        assert told["failed"] == 0, "a request of the measurement failed"
        return told["answered"] / (cpu_of(process.pid) - before)


def swap_under_load(state: StateFolder, made: dict[int, models.Packaged]) -> tuple[float, float]:
    """The slowest of some swaps between two warm versions, decision to acknowledgement in ms, and failed requests."""
    with started(serving(state)) as (_, url):
        load = start_load(url, 4.0)
        time.sleep(1.0)
        slowest = 0.0
        for number in range(SWAPS):
            moved = routes.encode(models.table(made, 1 + number % 2, 2 + number))
            start = time.perf_counter()
            ask(state.socket("serve-r0"), {"op": "route", "table": moved})
            slowest = max(slowest, (time.perf_counter() - start) * 1000)
            time.sleep(0.05)
        return slowest, end_load(load)["failed"]


def measure() -> list[Figure]:
    folder = Path(tempfile.mkdtemp(prefix="trueline-bench-"))
    try:
        made = {number: models.packaged("hist gradient boosting", folder / str(number)) for number in (1, 2)}
        one = models.state(folder / "one", {1: made[1]}, 1)
        two = models.state(folder / "two", made, 1)
        ours = per_cpu_second(serving(one))
        bare = per_cpu_second([sys.executable, str(HERE / "echo.py")])
        slowest, failed = swap_under_load(two, made)
        for state in (one, two):
            shutil.rmtree(state.socket("any").parent, ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ratio = ours / bare
    return [
        Figure("serve-throughput", "single-row predictions, gradient boosting (ONNX), journal, contract, metrics on", ours, "per CPU second", target="≥ 15× the best peer"),
        Figure("serve-echo", "the same beside a bare Protocol's echo", ours, "per CPU second", f"bare echo, {bare:,.0f}", ratio, "≥ 0.35×", ratio >= 0.35),
        Figure("rollback", f"route swap to acknowledgement under load, slowest of {SWAPS}", slowest, "ms", target="< 100 ms", holds=slowest < 100),
        Figure("rollback-failed", "requests that failed meanwhile", failed, "requests", target="0", holds=failed == 0),
    ]  # fmt: skip


if __name__ == "__main__":
    tell(measure, __doc__)
