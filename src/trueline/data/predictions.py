"""The `predictions` table: one row per prediction and per shadow score, appended by the shipper.

A row of arm `shadow` is what a version that did not answer would have said; it has no features (those stand in the row
that answered, of the same prediction id). A row without an arm stands for a request that was in flight when a serving
process died: nothing is known of it but the version that was being scored.

A request that was sent again with its `Idempotency-Key` may have been answered, and be here, twice under its one id; who reads
here has it once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from trueline.clock import to_us
from trueline.data.delta_reader import DeltaReader
from trueline.data.timestamps import as_utc
from trueline.domain.contracts import Column, Kind, compile_column
from trueline.domain.predictions import KEYED
from trueline.domain.routes import Arm
from trueline.storage.places import TablePlace

SCHEMA = pl.Schema(
    {
        "prediction_id": pl.String(),
        "request_id": pl.String(),
        "row": pl.Int32(),
        "event_us": pl.Int64(),
        "received_us": pl.Int64(),
        "day": pl.String(),  # of event time, UTC; the partition
        "model": pl.String(),
        "epoch": pl.Int64(),
        "release": pl.String(),
        "version": pl.Int64(),  # the one the request was routed to, or that scored it in shadow
        "arm": pl.String(),
        "weight": pl.Float64(),  # the known probability of the arm; 0 in shadow
        "unit": pl.String(),
        "outcome": pl.String(),
        "answered_by": pl.Int64(),  # whose prediction the client was told
        "queue_us": pl.Int64(),
        "exec_us": pl.Int64(),
        "features": pl.String(),  # JSON object of this row's columns
        "prediction": pl.Float64(),
        "error": pl.String(),
        "replica": pl.String(),
        "segment": pl.Int64(),
    }
)

SENT_AGAIN = timedelta(days=7)
"""How long after its answer a request is known for one that comes again, where days are read one by one."""
_ANSWERING = ("received_us", "replica")
"""Which time a request was answered: all rows of that time have these in common."""
_ANSWERED = (pl.col("arm") != Arm.shadow, pl.col("prediction").is_not_null())
ORDER = ("event_us", "prediction_id", "version")


class Predictions:
    def __init__(self, table: Path | TablePlace) -> None:
        self._reader = DeltaReader(table, SCHEMA)

    def read_day(self, day: str) -> pl.DataFrame:
        """All rows of one event-time day (ISO date), shadow scores included, by event time, prediction and version."""
        return self.read_days(day, day)

    def read_days(self, first: str, last: str) -> pl.DataFrame:
        """The same for every day from `first` to `last`, both included."""
        rows = self._reader.read(pl.col("day").is_between(pl.lit(first), pl.lit(last)))
        return self._without_answered_before(once(rows), first).sort(*ORDER)

    def _without_answered_before(self, rows: pl.DataFrame, first: str) -> pl.DataFrame:
        """Without requests that were sent again in these days, and had their answer in the days before."""
        keyed = rows["request_id"].filter(rows["request_id"].str.contains(KEYED))
        if keyed.is_empty():
            return rows
        since = (date.fromisoformat(first) - SENT_AGAIN).isoformat()
        before = (pl.col("day") >= since, pl.col("day") < first, *_ANSWERED)
        told = self._reader.present("request_id", keyed, *before)
        return rows.filter(~pl.col("request_id").is_in(told.implode()).fill_null(value=False))

    def days(self) -> list[str]:
        """The event-time days (ISO dates) that have rows, ascending."""
        return self._reader.days()

    def unknown(self, ids: pl.Series, near: str) -> pl.Series:
        """Those of the ids that no row has; looked for first in the days from `near`, where most will be."""
        rest = ids.unique()
        for days in (pl.col("day") >= near, pl.col("day") < near):
            if not rest.is_empty():
                known = self._reader.present("prediction_id", rest, days)
                rest = rest.filter(~rest.is_in(known.implode()))
        return rest

    def find(self, prediction_id: str) -> dict[str, Any] | None:
        """The row of a prediction that was answered, or was to be; None when no such id was shipped."""
        rows = once(self._reader.read(pl.col("prediction_id") == prediction_id, pl.col("arm") != Arm.shadow)).sort(
            *ORDER
        )
        if rows.is_empty():
            return None
        found = rows.row(0, named=True)
        found["features"] = json.loads(found["features"]) if found["features"] is not None else None
        return found


def once(rows: pl.DataFrame) -> pl.DataFrame:
    """Each request once: of one that came again with its key and was answered twice, the first answer and its shadow scores."""
    again = pl.col("request_id").str.contains(KEYED).fill_null(value=False)
    keyed = rows.filter(again)
    if keyed.is_empty():
        return rows
    told = keyed.filter(pl.col("arm") != Arm.shadow).sort(pl.col("prediction").is_null(), *_ANSWERING)
    first = told.unique("request_id", keep="first", maintain_order=True).select("request_id", *_ANSWERING)
    return pl.concat([rows.filter(~again), keyed.join(first, on=first.columns, how="semi")])


def find(table: Path | TablePlace, prediction_id: str) -> dict[str, Any] | None:
    """`Predictions.find` for whoever asks once."""
    return Predictions(table).find(prediction_id)


def features(frame: pl.DataFrame, columns: tuple[Column, ...]) -> pl.DataFrame:
    """The features of the rows that have any, as they were served, typed by the contract, and `_prediction_id`.

    A column that a row lacks is null there, and so is a value that is not of the column's kind: the row was served
    under an older contract. Rows keep their order.
    """
    served = frame.filter(pl.col("features").is_not_null())
    rows: list[Mapping[str, Any]] = json.loads(f"[{','.join(served['features'].to_list())}]")
    typed = [_typed(column, [row.get(column.name) for row in rows]) for column in columns]
    return pl.DataFrame([served["prediction_id"].alias("_prediction_id"), *typed])


def _typed(column: Column, values: list[Any]) -> pl.Series:
    refuse = compile_column(replace(column, nullable=True, strict=False))
    convert, kind = _KINDS[column.kind]
    kept = [None if value is None or refuse(value) is not None else convert(value) for value in values]
    return pl.Series(column.name, kept, dtype=kind)


def _microseconds(value: str) -> int:
    return to_us(as_utc(datetime.fromisoformat(value)))


_KINDS: Mapping[Kind, tuple[Callable[[Any], Any], pl.DataType]] = {
    Kind.integer: (int, pl.Int64()),
    Kind.float32: (float, pl.Float32()),
    Kind.float64: (float, pl.Float64()),
    Kind.string: (str, pl.String()),
    Kind.boolean: (bool, pl.Boolean()),
    Kind.datetime: (_microseconds, pl.Datetime("us", "UTC")),
}
