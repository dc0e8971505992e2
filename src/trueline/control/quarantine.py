"""Rows that an upstream fault spoilt: no model learns from them and none is judged by them.

They are the served rows of the fault's slice on its days. A fault that ended with the input unchanged (a model has learnt
the new form meanwhile) spoils nothing: those rows are what the input is from now on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from trueline.domain.incidents import Incident

ORIGIN, SERVED = "_origin", "feedback"
ALL = "all"
DAY = timedelta(days=1)


def spoilt(frame: pl.DataFrame, faults: Sequence[Incident], time: str | None) -> pl.Series:
    """Which rows to leave out; none where rows have no time."""
    mask = pl.repeat(value=False, n=frame.height, dtype=pl.Boolean, eager=True)
    if time is None or ORIGIN not in frame.columns:
        return mask
    for fault in faults:
        cause = fault.cause or {}
        if cause and cause.get("input_back", True):
            mask = mask | frame.select(_rows(cause, frame, time)).to_series()
    return mask


def _rows(cause: dict[str, Any], frame: pl.DataFrame, time: str) -> pl.Expr:
    since = datetime.fromisoformat(cause["since"]).date()
    until = date.fromisoformat(cause["until"]) if cause.get("until") else date.max - DAY
    day = pl.col(time).dt.date()
    found = (pl.col(ORIGIN) == SERVED) & (day >= since) & (day < until)
    column, _, value = str(cause["slice"]).partition("=")
    if column == ALL and not value:
        return found.fill_null(value=False)
    if column not in frame.columns:
        return pl.repeat(value=False, n=frame.height, dtype=pl.Boolean)
    return (found & (pl.col(column).cast(pl.String) == value)).fill_null(value=False)
