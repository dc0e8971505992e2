"""rollback: a route swap between two warm versions while requests come in, from the decision to the acknowledgement."""

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
from figures import Figure, pin, tell
from trueline.domain import routes
from trueline.packaging.build import Packaged
from trueline.settings import StateFolder
from trueline.sockets import ask

HERE = Path(__file__).parent
CONNECTIONS = 32
SWAPS = 20
BODY = json.dumps({"instances": [dict.fromkeys(models.NAMES, 0.25)]})


@contextmanager
def started(state: StateFolder) -> Iterator[str]:
    """A serving process, and its address, which is in the first line it prints."""
    command = [sys.executable, "-m", "trueline.serving", "--state", str(state.root), "--replica", "r0", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            pin(process.pid, 0)
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


def swap_under_load(state: StateFolder, made: dict[int, Packaged]) -> tuple[float, float]:
    """The slowest of some swaps in ms, and the requests that failed meanwhile."""
    with started(state) as url:
        command = [sys.executable, str(HERE / "load.py"), url, "/predict", BODY, str(CONNECTIONS), "4"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
            pin(load.pid, 1)
            time.sleep(1.0)
            slowest = 0.0
            for number in range(SWAPS):
                moved = routes.encode(models.table(made, 1 + number % 2, 2 + number))
                start = time.perf_counter()
                ask(state.socket("serve-r0"), {"op": "route", "table": moved})
                slowest = max(slowest, (time.perf_counter() - start) * 1000)
                time.sleep(0.05)
            return slowest, json.loads(load.communicate(timeout=120)[0])["failed"]


def measure() -> list[Figure]:
    folder = Path(tempfile.mkdtemp(prefix="trueline-bench-"))
    try:
        made = {number: models.packaged("hist gradient boosting", folder / str(number)) for number in (1, 2)}
        slowest, failed = swap_under_load(models.state(folder / "state", made, 1), made)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    claim = f"route swap to acknowledgement under load, slowest of {SWAPS}"
    return [
        Figure("rollback", claim, slowest, "ms", target="< 100 ms", holds=slowest < 100),
        Figure("rollback", "requests that failed meanwhile", failed, "requests", target="0", holds=failed == 0),
    ]


if __name__ == "__main__":
    tell(measure, __doc__)
