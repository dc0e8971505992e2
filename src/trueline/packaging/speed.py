"""How long a model takes for a row: alone, as a lone request brings it, and as one of the 32 of a full batch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from trueline.packaging.parity import Predict, Proof

BATCH = 32
REPEATS = 20
ENOUGH = 2e-3  # seconds of repeating; a model that needs as long for one call is asked twice


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
    return Seconds(_best(predict, one), _best(predict, many) / BATCH)


def _listed(values: Any) -> list[Any]:
    return list(values.tolist()) if hasattr(values, "tolist") else list(values)


def _best(predict: Predict, columns: dict[str, list[Any]]) -> float:
    best, started = float("inf"), time.perf_counter()
    for done in range(REPEATS):
        before = time.perf_counter()
        predict(columns)
        now = time.perf_counter()
        best = min(best, now - before)
        if done and now - started > ENOUGH:
            break
    return best
