"""parity: the packaged model against the native one, one line for each estimator.

The larger of two differences: on fresh rows, which packaging has not seen, found here through the loaded executor; and the
worst that packaging's own proof found on held-out and edge rows. Absolute on probabilities, relative on values.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import models
from figures import Figure, number, tell
from trueline.packaging.executors import load
from trueline.packaging.parity import as_columns

TOLERANCE = 1e-5  # the design's, not what packaging happens to be set to


def measure(*, quick: bool) -> Iterator[Figure]:
    seen, fresh = models.rows(400 if quick else models.ROWS), models.rows(400 if quick else models.ROWS, seed=6)
    names = ["ridge"] if quick else list(models.ESTIMATORS)
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as folder:
        for name in names:
            fitted = models.fitted(name, seen)
            made = fitted.packaged(seen.tail(seen.height // 2), Path(folder) / name)
            found = load(made.folder, made.digest).predict(as_columns(fresh.select(fitted.columns)))
            expected = fitted.predict(fresh)
            gap = np.abs(found - expected)
            if fitted.task == "regression":
                gap = gap / np.maximum(np.abs(expected), np.median(np.abs(expected)))
            worst = float(max(gap.max(), made.parity.worst))
            yield Figure(
                "parity",
                f"{name}, served by {made.kind}: worst of {made.parity.rows + fresh.height:,} rows",
                worst,
                "probability" if fitted.task == "classification" else "relative",
                f"the fitted estimator, tolerance {number(TOLERANCE)}",
                worst / TOLERANCE,
                "≤ 1e-5",
                worst <= TOLERANCE,
            )


if __name__ == "__main__":
    tell(measure, __doc__)
