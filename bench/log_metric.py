"""log-metric: what logging costs the training process: `trueline.log`, and MLflow's own call through our store."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import cpu
import trueline
from figures import Figure, number, tell
from trueline.tracking import journal
from trueline.tracking.recording import recording


def measure(*, quick: bool) -> Iterator[Figure]:
    calls = 2_000 if quick else 100_000
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as name:
        folder = Path(name)
        with recording(folder, "run-1"):
            yield _own(folder, calls)
            if importlib.util.find_spec("mlflow") is not None:
                yield _mlflow(500 if quick else 5_000)


def _own(folder: Path, calls: int) -> Figure:
    trueline.log("loss", 1 / 7)
    line = (folder / journal.NAME).read_bytes().splitlines(keepends=True)[-1]
    file = os.open(folder / "bare", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    best = cpu.best_in_turns(
        {
            "log": lambda: [trueline.log("loss", step / 7) for step in range(calls)],
            "write": lambda: [os.write(file, line) for _ in range(calls)],
        },
        rounds=3,
    )
    os.close(file)
    ours, bare = best["log"] / calls * 1e6, best["write"] / calls * 1e6
    claim = "trueline.log, CPU of the training process per call"
    return Figure(
        "log-metric", claim, ours, "µs CPU", f"one write(), {number(bare)} µs", ours / bare, "≤ 5 µs", ours <= 5
    )


def _mlflow(calls: int) -> Figure:
    import mlflow

    from trueline.tracking.recorder import JournalStore

    mlflow.log_metric("loss", 0.0)  # it starts the run

    def stubbed() -> None:
        with patch.object(JournalStore, "log_metric", lambda *_: None):
            for step in range(calls):
                mlflow.log_metric("loss", step / 7, step=step)

    def ours() -> None:
        for step in range(calls):
            mlflow.log_metric("loss", step / 7, step=step)

    best = cpu.best_in_turns({"ours": ours, "stubbed": stubbed}, rounds=3)
    mlflow.end_run()
    cost, floor = best["ours"] / calls * 1e6, best["stubbed"] / calls * 1e6
    claim = "mlflow.log_metric through our store, CPU of the training process per call"
    beside = f"the same with a store that does nothing, {number(floor)} µs"
    return Figure("log-metric", claim, cost, "µs CPU", beside, cost / floor, "≤ 150 µs", cost <= 150)


if __name__ == "__main__":
    tell(measure, __doc__)
