"""Journal records as rows of the two tables, one row per prediction.

Purely a function of the segment: shipping a segment again gives the same rows, ids included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import polars as pl

from trueline.data import labels, predictions
from trueline.domain.routes import Arm
from trueline.journal.records import CrashRecord, LabelRecord, PredictionRecord, Record, ShadowRecord, prediction_id

_json = msgspec.json.Encoder()  # times become ISO text, NaN and the infinities null


@dataclass
class Batch:
    """What some segments of one replica come to, collected column by column."""

    replica: str
    _predictions: list[tuple[Any, ...]] = field(default_factory=list)
    _labels: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, segment: int, records: Iterable[Record]) -> None:
        for record in records:
            match record:
                case PredictionRecord():
                    self._answer(record, segment)
                case ShadowRecord():
                    self._shadow(record, segment)
                case LabelRecord():
                    self._label(record, segment)
                case CrashRecord():
                    self._crash(record, segment)

    @property
    def predictions(self) -> pl.DataFrame:
        return _frame(self._predictions, predictions.SCHEMA)

    @property
    def labels(self) -> pl.DataFrame:
        return _frame(self._labels, labels.SCHEMA)

    def _answer(self, one: PredictionRecord, segment: int) -> None:
        cells = zip(_features(one.features, one.rows), _outputs(one.outputs, one.rows), strict=True)
        for row, (features, output) in enumerate(cells):
            self._predictions.append(
                (
                    prediction_id(one.request_id, row),
                    one.request_id,
                    row,
                    one.event_us,
                    one.received_us,
                    one.model,
                    one.epoch,
                    one.release,
                    one.version,
                    one.arm,
                    one.weight,
                    one.unit,
                    one.outcome,
                    one.answered_by,
                    one.queue_us,
                    one.exec_us,
                    features,
                    output,
                    one.error,
                    self.replica,
                    segment,
                )
            )

    def _shadow(self, one: ShadowRecord, segment: int) -> None:
        for row, output in enumerate(_outputs(one.outputs, one.rows)):
            self._unanswered(
                one, one.request_id, row, segment, Arm.shadow, one.release, one.outcome, one.exec_us, output, one.error
            )

    def _crash(self, one: CrashRecord, segment: int) -> None:
        """A row for each request that was in flight; at least one, so that no crash goes unseen."""
        request_id = f"crash-{self.replica}-{one.received_us:x}"
        for row in range(max(one.in_flight, 1)):
            self._unanswered(one, request_id, row, segment, None, None, "failed", None, None, one.error)

    def _unanswered(
        self,
        one: ShadowRecord | CrashRecord,
        request_id: str,
        row: int,
        segment: int,
        arm: Arm | None,
        release: str | None,
        outcome: str,
        exec_us: int | None,
        output: float | None,
        error: str | None,
    ) -> None:
        """A row that no client was told, of which the journal knows no more than this."""
        self._predictions.append(
            (
                prediction_id(request_id, row),
                request_id,
                row,
                one.event_us,
                one.received_us,
                None,
                None,
                release,
                one.version,
                None if arm is None else str(arm),
                0.0,
                None,
                outcome,
                None,
                None,
                exec_us,
                None,
                output,
                error,
                self.replica,
                segment,
            )
        )

    def _label(self, one: LabelRecord, segment: int) -> None:
        self._labels.append(
            (
                one.label_id,
                one.prediction_id,
                one.value,
                one.event_us,
                one.received_us,
                one.source,
                one.revision,
                self.replica,
                segment,
            )
        )


def _frame(rows: list[tuple[Any, ...]], schema: pl.Schema) -> pl.DataFrame:
    """Rows without their day, with it."""
    given = {name: kind for name, kind in schema.items() if name != "day"}
    day = pl.from_epoch("event_us", time_unit="us").dt.date().cast(pl.String).alias("day")
    return pl.DataFrame(rows, schema=given, orient="row").with_columns(day).select(schema.names())


def _outputs(outputs: Sequence[float] | None, rows: int) -> Sequence[float | None]:
    return [None] * rows if outputs is None else outputs


def _features(columns: dict[str, list[Any]], rows: int) -> list[str]:
    """Each row's own features as a JSON object."""
    if not columns:
        return ["{}"] * rows
    names = tuple(columns)
    return [_json.encode(dict(zip(names, row, strict=True))).decode() for row in zip(*columns.values(), strict=True)]
