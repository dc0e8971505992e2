"""parity: the packaged model against the native one, on held-out and edge rows, one line for each estimator."""

from __future__ import annotations

import tempfile
from pathlib import Path

import models
from figures import Figure, tell

TOLERANCE = 1e-5


def measure() -> list[Figure]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in models.ESTIMATORS:
            made = models.packaged(name, Path(folder) / name.replace(" ", "-"))
            proof = made.parity
            claim = f"{name} as {made.kind}: worst difference over {proof.rows:,} rows"
            found.append(
                Figure(
                    "parity",
                    claim,
                    proof.worst,
                    "difference",
                    "the native model",
                    None,
                    f"≤ {TOLERANCE:g}",
                    proof.worst <= TOLERANCE,
                )
            )
    return found


if __name__ == "__main__":
    tell(measure, __doc__)
