"""A planted mistake: trained on kilometres, asked in miles.

Somebody tidied the units in the training code and nowhere else. Nothing is wrong with the fit itself.
"""

from __future__ import annotations

import polars as pl
from sklearn.pipeline import Pipeline

import model

KILOMETRES_A_MILE = 1.609344


def fit(frame: pl.DataFrame, alpha: float = 1.0) -> Pipeline:
    """Fit the same model on distances in kilometres."""
    return model.fit(frame.with_columns(pl.col("distance") * KILOMETRES_A_MILE), alpha)
