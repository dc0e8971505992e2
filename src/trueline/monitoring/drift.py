"""How far a day's inputs are from what the champion was trained on. It explains; it never pages."""

from __future__ import annotations

import json
import math
from typing import Any

import polars as pl

from trueline.domain.routes import Arm
from trueline.domain.versions import Version
from trueline.stats.drift import Bins, noise_limit, stability_index

ALPHA = 0.001
"""Of calling noise drift, per feature and day."""


def compare(predictions: pl.DataFrame, version: Version) -> dict[str, Any]:
    """Population stability index per feature, with the index that noise alone stays under."""
    answered = predictions.filter((pl.col("arm") != Arm.shadow) & pl.col("features").is_not_null())
    served = [json.loads(text) for text in answered["features"].to_list()]
    found: dict[str, Any] = {}
    for name, reference in version.summary.get("features", {}).items():
        bins, counts = _reference(reference, int(version.summary["rows"]))
        current = bins.count([row.get(name) for row in served])
        found[name] = {
            "psi": round(stability_index(counts, current), 5),
            "noise": round(noise_limit(counts, current, alpha=ALPHA), 5),
        }
    return found


def _reference(reference: dict[str, Any], rows: int) -> tuple[Bins, tuple[int, ...]]:
    """The training rows' bins and counts. A value on an edge belongs to the bin below it there, above it in `Bins`."""
    if reference["kind"] == "category":
        shares = [*reference["shares"], reference["other"], reference["null"]]
        bins = Bins(categories=tuple(reference["categories"]))
    else:
        shares = [*reference["shares"], reference["null"]]
        bins = Bins(edges=tuple(math.nextafter(edge, math.inf) for edge in reference["edges"]))
    return bins, tuple(round(share * rows) for share in shares)
