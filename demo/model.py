"""Minutes in the air, from what the schedule knows before departure."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = ["distance", "departs"]


def fit(frame: pl.DataFrame, alpha: float = 1.0) -> Pipeline:
    """Fit on the flights that landed."""
    return linear(frame.drop_nulls("air_time"), NUMBERS, alpha)


def linear(landed: pl.DataFrame, numbers: Sequence[str], alpha: float, *first: object) -> Pipeline:
    """A ridge regression on one-hot categories and scaled numbers; `first` are steps before the scaling."""
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), CATEGORIES),
        (make_pipeline(*first, StandardScaler()), [*numbers]),
    )
    return make_pipeline(columns, Ridge(alpha=alpha)).fit(landed.select(*CATEGORIES, *numbers), landed["air_time"])
