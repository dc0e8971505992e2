"""A journal as a server writes it, and what the tables must hold of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
from deltalake import DeltaTable

from trueline.clock import to_us
from trueline.data import labels, predictions
from trueline.journal.records import CrashRecord, LabelRecord, PredictionRecord, Record, ShadowRecord
from trueline.settings import StateFolder

DAY = 86_400_000_000
AT = to_us(datetime(2026, 3, 1, tzinfo=UTC))


def answer(request: str, **given: Any) -> PredictionRecord:
    plain: dict[str, Any] = {
        "request_id": request,
        "event_us": AT,
        "received_us": AT + 7,
        "model": "m",
        "epoch": 3,
        "release": "release-1",
        "version": 1,
        "arm": "champion",
        "weight": 0.9,
        "unit": "user-1",
        "outcome": "answered",
        "answered_by": 1,
        "queue_us": 11,
        "exec_us": 13,
        "rows": 2,
        "features": {"x": [1.5, None], "c": ["a", "b"]},
        "outputs": [0.25, 0.75],
        "error": None,
    }
    return PredictionRecord(**(plain | given))


def shadow(request: str, **given: Any) -> ShadowRecord:
    plain: dict[str, Any] = {"request_id": request, "event_us": AT, "received_us": AT + 9, "version": 2}
    plain |= {"release": "release-1", "outcome": "answered", "exec_us": 5, "rows": 2, "outputs": [0.2, 0.8]}
    return ShadowRecord(**(plain | {"error": None} | given))


def label(name: str, prediction: str, **given: Any) -> LabelRecord:
    plain: dict[str, Any] = {"label_id": name, "prediction_id": prediction, "value": 1.0, "event_us": AT + DAY}
    return LabelRecord(**(plain | {"received_us": AT + DAY, "source": "api", "revision": None} | given))


def crash(**given: Any) -> CrashRecord:
    plain: dict[str, Any] = {"version": 2, "event_us": AT, "received_us": AT + 255, "in_flight": 3, "error": "it died"}
    return CrashRecord(**(plain | given))


def mixed(number: int) -> list[Record]:
    """A batch of every kind, told apart by its number."""
    request = f"r0-1-{number:x}"
    return [
        answer(request, event_us=AT + number * DAY // 3),
        shadow(request, event_us=AT + number * DAY // 3),
        label(f"l{number}", f"{request}-0", event_us=AT + number * DAY // 2),
        crash(received_us=AT + number, in_flight=1),
    ]


def expected(numbers: range) -> tuple[list[str], list[str]]:
    """The ids in both tables once the batches of these numbers are shipped."""
    ids = [f"r0-1-{number:x}-{row}" for number in numbers for row in (0, 0, 1, 1)]
    return sorted([*ids, *(f"crash-r0-{AT + number:x}-0" for number in numbers)]), sorted(f"l{n}" for n in numbers)


def rows(state: StateFolder, table: str) -> pl.DataFrame:
    return pl.read_delta(str(state.table(table)))


def shipped(state: StateFolder) -> tuple[list[str], list[str]]:
    """The ids that are in both tables."""
    found = []
    for table, schema, column in (
        ("predictions", predictions.SCHEMA, "prediction_id"),
        ("labels", labels.SCHEMA, "label_id"),
    ):
        there = DeltaTable.is_deltatable(str(state.table(table)))
        frame = rows(state, table) if there else pl.DataFrame(schema=schema)
        found.append(sorted(frame[column].to_list()))
    return found[0], found[1]
