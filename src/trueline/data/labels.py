"""The `labels` table: every label that was accepted, appended by the shipper; and what they say taken together.

A label's identity is (prediction, source, revision). The same value again is a duplicate and changes nothing; a new
value is a correction. Nothing is overwritten: which label holds is worked out anew at each read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trueline.data.delta_reader import DeltaReader
from trueline.storage.places import TablePlace

SCHEMA = pl.Schema(
    {
        "label_id": pl.String(),
        "prediction_id": pl.String(),
        "value": pl.Float64(),  # null withdraws the label
        "event_us": pl.Int64(),  # when it arrived, in event time
        "received_us": pl.Int64(),
        "day": pl.String(),  # of event time, UTC; the partition
        "source": pl.String(),
        "revision": pl.Int64(),
        "replica": pl.String(),
        "segment": pl.Int64(),
    }
)

IDENTITY = ("prediction_id", "source", "revision")
ARRIVAL = ("event_us", "received_us", "label_id")


@dataclass(frozen=True)
class Resolved:
    """`labels`: one row per labelled prediction, by prediction id: prediction_id, value, event_us, source."""

    labels: pl.DataFrame
    duplicates: int
    corrections: int


class Labels:
    def __init__(self, table: Path | TablePlace) -> None:
        self._reader = DeltaReader(table, SCHEMA)

    def read(self, since_day: str, until_day: str | None = None) -> pl.DataFrame:
        """All labels that arrived from one day through another (ISO dates of event time, both included), as accepted."""
        days = [pl.col("day") >= since_day]
        if until_day is not None:
            days.append(pl.col("day") <= until_day)
        return self._reader.read(*days).sort(*ARRIVAL)


def resolve(raw: pl.DataFrame) -> Resolved:
    """Which label holds for each prediction, and how many rows were duplicates or corrections.

    The highest revision holds (none at all is the lowest); within it, whatever its source, the last that arrived. When
    that one is null the prediction has no label. The order of rows in `raw` does not matter.
    """
    arrived = raw.sort(*ARRIVAL, "value", *IDENTITY, nulls_last=True)
    first = pl.struct(IDENTITY).is_first_distinct()
    again = ~first & pl.col("value").eq_missing(pl.col("value").shift(1).over(IDENTITY))
    marked = arrived.with_columns(again.alias("again"), first.alias("first"))
    told = marked.filter(~pl.col("again"))
    labels = (
        told.sort("revision", *ARRIVAL, nulls_last=False, maintain_order=True)
        .unique("prediction_id", keep="last", maintain_order=True)
        .filter(pl.col("value").is_not_null())
        .sort("prediction_id")
        .select("prediction_id", "value", "event_us", "source")
    )
    return Resolved(labels, duplicates=raw.height - told.height, corrections=told.filter(~pl.col("first")).height)
