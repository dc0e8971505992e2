"""log-metric: what `trueline.log` costs the training process, beside one bare write() of the same line."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cpu
import trueline
from figures import Figure, number, tell
from trueline.tracking import journal


def measure(*, quick: bool) -> Iterator[Figure]:
    calls = 2_000 if quick else 100_000
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as name:
        folder = Path(name)
        journal.begin(folder)
        trueline.log("loss", 1 / 7)
        line = (folder / journal.NAME).read_bytes()
        file = os.open(folder / "bare", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        best = cpu.best_in_turns(
            {
                "log": lambda: [trueline.log("loss", step / 7) for step in range(calls)],
                "write": lambda: [os.write(file, line) for _ in range(calls)],
            },
            rounds=3,
        )
        journal.end()
        os.close(file)
    ours, bare = best["log"] / calls * 1e6, best["write"] / calls * 1e6
    claim = "trueline.log, CPU of the training process per call"
    yield Figure(
        "log-metric", claim, ours, "µs CPU", f"one write(), {number(bare)} µs", ours / bare, "≤ 5 µs", ours <= 5
    )


if __name__ == "__main__":
    tell(measure, __doc__)
