"""log-metric: what `trueline.log` costs the training process, beside one bare write() of the same line."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import trueline
from figures import Figure, best_cpu, tell
from trueline.tracking import journal

CALLS = 20_000
LINE = b'{"m":"loss","v":0.123456789,"s":12345,"t":1763640000000}\n'


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        journal.begin(Path(folder))
        ours = best_cpu(lambda: [trueline.log("loss", 0.123456789) for _ in range(CALLS)])
        journal.end()
        file = os.open(Path(folder) / "bare", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        bare = best_cpu(lambda: [os.write(file, LINE) for _ in range(CALLS)])
        os.close(file)
    ours_us, bare_us = ours / CALLS * 1e6, bare / CALLS * 1e6
    claim = "trueline.log, CPU of the training process per call"
    return [
        Figure(
            "log-metric",
            claim,
            ours_us,
            "µs",
            f"one write(), {bare_us:.2f} µs",
            ours_us / bare_us,
            "≤ 5 µs",
            ours_us <= 5,
        )
    ]


if __name__ == "__main__":
    tell(measure, __doc__)
