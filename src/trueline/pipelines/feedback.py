"""Feedback: labelled predictions become rows of the dataset, with the features as they were served.

Features as served cannot differ from what a live model gets, so a model retrained on them has no train/serve skew, and
a column that is only known later is visibly empty in them.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from trueline.clock import from_us
from trueline.control.context import Context
from trueline.data.datasets import Written
from trueline.data.labels import resolve
from trueline.data.predictions import features
from trueline.data.tables import Tables
from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.domain.releases import Release
from trueline.domain.routes import Arm
from trueline.errors import InvalidData
from trueline.store import meta
from trueline.store import rows as stored
from trueline.store import tables as stored_tables

OVERLAP = timedelta(days=3)
"""Days read again each time, for labels that came after the last look; rows already there are not added twice."""


def append(context: Context, tables: Tables, contract: Contract) -> Written | None:
    """Add what was labelled since the last time; nothing new makes no new version."""
    key = f"feedback/{context.project.name}"
    through = context.clock.now().date()
    start = _start(context, key)
    if start is None:
        return None
    truth = resolve(tables.labels.read(start.isoformat())).labels
    served = tables.predictions.read_days(start.isoformat(), through.isoformat())
    rows = rows_of(served, truth, contract)
    written = None if rows.is_empty() else tables.dataset.append_feedback(rows, contract=contract)
    with context.store.begin() as tx:
        meta.put(tx, key, through.isoformat())
    return written


def _start(context: Context, key: str) -> date | None:
    """The first day to read: before the last look by as long as labels take, or the day of the first release."""
    project = context.project.name
    overlap = OVERLAP + context.project.monitor.labels.expect_after
    with context.store.read() as tx:
        last = meta.get(tx, key)
        release = stored.first(tx, Release, stored_tables.releases.c.project == project)
    if release is None:
        return None
    first = release.created_at.date()
    return first if last is None else max(first, date.fromisoformat(last) - overlap)


def rows_of(predictions: pl.DataFrame, labels: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Labelled answers of one day as rows of the contract, with the prediction's id."""
    served = predictions.filter((pl.col("arm") != Arm.shadow) & pl.col("features").is_not_null())
    joined = served.join(
        labels.select("prediction_id", pl.col("value").alias("_label")), on="prediction_id", how="inner"
    )
    target = contract.target
    columns = tuple(column for column in contract.columns if column is not target)
    found = features(joined, columns)
    label = _in_words(joined["_label"], target)
    rows = found.with_columns(label.alias(target.name))
    for column in contract.of(Role.time):
        event = pl.Series(
            column.name, [from_us(us) for us in joined["event_us"].to_list()], dtype=pl.Datetime("us", "UTC")
        )
        rows = rows.with_columns(pl.coalesce(pl.col(column.name), event).alias(column.name))
    return rows


def _in_words(label: pl.Series, target: Column) -> pl.Series:
    """Labels are told as numbers; a target of two texts gets the later in order for 1, as scikit-learn orders classes."""
    if target.kind is Kind.boolean:
        return label != 0
    if target.kind is not Kind.string or label.is_empty():
        return label
    names = sorted(target.categories or ())
    if len(names) != 2:
        raise InvalidData(
            f"labels are numbers, and the target '{target.name}' has {len(names) or 'no'} known texts; "
            "give it the two that mean 0 and 1 as categories in contract.yaml"
        )
    return pl.select(pl.when(label >= 0.5).then(pl.lit(names[1])).otherwise(pl.lit(names[0]))).to_series()
