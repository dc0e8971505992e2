"""serve-start, cli-start: how long until something useful happens."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import load
import models
from figures import Figure, cpu_of_children, tell
from rollback import BODY, started
from trueline.settings import StateFolder

TIMES = 5
PROJECT = "version: 1\nproject: bench\ndata: {source: rows.csv, target: y}\ntrain: model.py:fit\n"


def first_prediction(state: StateFolder) -> float:
    """Seconds from starting the process to the first answer."""
    start = time.perf_counter()
    with started(state) as url:
        with load.connect(url) as channel:
            channel.sendall(load.request("/predict", BODY.encode()))
            assert load.answer(channel).startswith(b"HTTP/1.1 200")
        return time.perf_counter() - start


def cpu(arguments: list[str], folder: Path) -> float:
    """Median CPU seconds of a command."""

    def run() -> None:
        subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, check=False)

    run()
    return statistics.median(cpu_of_children(run) for _ in range(TIMES))


def measure() -> list[Figure]:
    folder = Path(tempfile.mkdtemp(prefix="trueline-bench-"))
    try:
        state = models.state(folder / "state", {1: models.packaged("hist gradient boosting", folder / "1")}, 1)
        start = statistics.median(first_prediction(state) for _ in range(TIMES))
        (folder / "trueline.yaml").write_text(PROJECT)
        bare = cpu(["-c", "import sqlalchemy"], folder)
        helped = cpu(["-m", "trueline", "--help"], folder)
        status = cpu(["-m", "trueline", "status"], folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [
        Figure("serve-start", "start of the process to its first prediction, wall time", start, "s", target="< 1 s", holds=start < 1),
        Figure("cli-start", "trueline --help, CPU", helped, "s", f"importing SQLAlchemy, {bare:.2f} s", helped / bare, "≤ 0.15 s", helped <= 0.15),
        Figure("cli-start", "trueline status without a server, CPU", status, "s", f"importing SQLAlchemy, {bare:.2f} s", status / bare, "≤ 0.6 s", status <= 0.6),
    ]  # fmt: skip


if __name__ == "__main__":
    tell(measure, __doc__)
