"""A planted mistake: uses a column that the archive has and that nobody knows before the flight has landed.

On held-out January it is the best model yet. Asked before departure, when the column is still empty, it is useless.
"""

from __future__ import annotations

import polars as pl
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

import model


def fit(frame: pl.DataFrame, alpha: float = 1.0) -> Pipeline:
    """Fit with the time from gate to gate, on the flights that have one."""
    complete = frame.drop_nulls(["air_time", "gate_to_gate"])
    return model.linear(complete, [*model.NUMBERS, "gate_to_gate"], alpha, SimpleImputer())
