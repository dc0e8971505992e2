"""What other policies would have done with the same flights and the same `fit`: never retrain, retrain every month."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trueline.demo.flights import END, START, Flights
from trueline.errors import InvalidProject
from trueline.userfiles import import_file

Fit = Callable[[pl.DataFrame], Any]
Predictions = NDArray[np.float64]


def fit_function(project: Path) -> Fit:
    """The `fit` that the demo's project file names, imported as training imports it."""
    path = project / "model.py"
    module = import_file(path, "trueline_demo_model") if path.is_file() else None
    if module is None:
        raise InvalidProject(f"the demo's {path} is not there; run the demo from a clone of the repository")
    fit: Fit = module.fit
    return fit


def frozen(flights: Flights, fit: Fit) -> Predictions:
    """Fit on January, answer all year."""
    live = _live(flights)
    return _predict(fit(flights.january), live)


def monthly(flights: Flights, fit: Fit) -> Predictions:
    """On the first of each month, fit on what departed in the month before and had landed by then."""
    live = _live(flights)
    answers = np.full(live.height, np.nan)
    month_start, before = START, datetime(START.year, START.month - 1, 1, tzinfo=START.tzinfo)
    while month_start < END:
        month_end = _next_month(month_start)
        known = (pl.col("scheduled") >= before) & (pl.col("scheduled") < month_start) & (pl.col("landed") < month_start)
        model = fit(flights.frame.filter(known))
        mine = (
            live.select((pl.col("scheduled") >= month_start) & (pl.col("scheduled") < month_end)).to_series().to_numpy()
        )
        answers[mine] = _predict(model, live.filter(mine))
        before, month_start = month_start, month_end
    return answers


def _live(flights: Flights) -> pl.DataFrame:
    return flights.frame.filter(pl.col("scheduled") >= START)


def _predict(model: Any, frame: pl.DataFrame) -> Predictions:
    return np.asarray(model.predict(frame.select(list(model.feature_names_in_))), dtype=np.float64)


def _next_month(moment: datetime) -> datetime:
    if moment.month == 12:
        return moment.replace(year=moment.year + 1, month=1)
    return moment.replace(month=moment.month + 1)
