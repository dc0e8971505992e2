"""What a model costs for a row: alone, as a lone request brings it, and as one of the 32 of a full batch.

Counted in this thread's time on the processor, not the wall's: it is what a core can serve, and it hardly changes on a busy
machine, nor by threads of OpenMP that still spin after somebody else's call. Libraries are held to one thread meanwhile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from threadpoolctl import threadpool_limits

from trueline.packaging.parity import Predict, Proof

BATCH = 32
REPEATS = 20
ENOUGH = 2e-3  # seconds of repeating
SHORT = 2e-4


@dataclass(frozen=True)
class Seconds:
    """Per row, at best."""

    alone: float
    batched: float

    @property
    def cost(self) -> float:
        """What is compared: a row alone and a row in a batch, for traffic is both."""
        return self.alone + self.batched


def measure(predict: Predict, proof: Proof) -> Seconds:
    """The best of a few calls on held-out rows, given as lists, as a request's are."""
    (_, columns, expected) = proof.groups[0]
    rows = [place % len(expected) for place in range(BATCH)]
    one = {name: _listed(values[:1]) for name, values in columns.items()}
    many = {
        name: [values[place] for place in rows]
        for name, values in ((n, _listed(v[:BATCH])) for n, v in columns.items())
    }
    with threadpool_limits(1):
        return Seconds(_best(predict, one), _best(predict, many) / BATCH)


def _listed(values: Any) -> list[Any]:
    return list(values.tolist()) if hasattr(values, "tolist") else list(values)


def _best(predict: Predict, columns: dict[str, list[Any]]) -> float:
    best, spent, calls = float("inf"), 0.0, 1
    for _ in range(REPEATS):
        before = time.thread_time()
        for _ in range(calls):
            predict(columns)
        took = time.thread_time() - before
        best, spent = min(best, took / calls), spent + took
        if spent > ENOUGH:
            break
        calls = 4 if took < SHORT else 1  # asking the clock costs half a microsecond
    return best
