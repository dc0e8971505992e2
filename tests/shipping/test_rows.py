"""What a journal record looks like in the tables."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shipping_world import AT, DAY, answer, crash, label, shadow

from trueline.clock import from_us
from trueline.data import labels, predictions
from trueline.shipping.rows import Batch


def predicted(*records) -> pl.DataFrame:
    batch = Batch("r0")
    batch.add(7, records)
    return batch.predictions


def test_a_request_becomes_a_row_for_each_prediction() -> None:
    found = predicted(answer("r"))
    assert found.schema == predictions.SCHEMA
    assert found.row(1, named=True) == {
        "prediction_id": "r-1",
        "request_id": "r",
        "row": 1,
        "event_us": AT,
        "received_us": AT + 7,
        "day": "2026-03-01",
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
        "features": '{"x":null,"c":"b"}',
        "prediction": 0.75,
        "error": None,
        "replica": "r0",
        "segment": 7,
    }


def test_a_failed_request_has_rows_without_predictions() -> None:
    found = predicted(answer("r", outcome="failed", answered_by=None, outputs=None, error="no"))
    assert found.select("prediction", "answered_by", "error").rows() == [(None, None, "no")] * 2


def test_a_request_without_columns_keeps_its_rows() -> None:
    assert predicted(answer("r", features={}))["features"].to_list() == ["{}", "{}"]


def test_a_shadow_score_has_no_features_no_weight_and_the_ids_of_the_answer() -> None:
    found = predicted(shadow("r"))
    assert found["prediction_id"].to_list() == ["r-0", "r-1"]
    assert found.select("arm", "weight", "answered_by", "features", "prediction", "exec_us").row(0) == (
        "shadow",
        0.0,
        None,
        None,
        0.2,
        5,
    )


def test_a_crash_is_a_failed_row_for_each_request_in_flight_and_at_least_one() -> None:
    found = predicted(crash())
    assert found["prediction_id"].to_list() == [f"crash-r0-{AT + 255:x}-{row}" for row in range(3)]
    assert found.select("version", "outcome", "arm", "error").unique().rows() == [(2, "failed", None, "it died")]
    assert predicted(crash(in_flight=0)).height == 1


def test_labels_keep_their_nulls_and_the_day_they_arrived() -> None:
    batch = Batch("r0")
    batch.add(7, [label("l1", "p", value=None, revision=2), label("l2", "p", event_us=AT - 1)])
    assert batch.labels.schema == labels.SCHEMA
    assert batch.labels.select("value", "revision", "day", "segment").rows() == [
        (None, 2, "2026-03-02", 7),
        (1.0, None, "2026-02-28", 7),
    ]
    assert batch.predictions.is_empty()


def test_what_json_does_not_know_is_served_as_null_or_text() -> None:
    values = {"x": [math.nan, math.inf], "at": [datetime(2026, 3, 1, tzinfo=UTC), None]}
    texts = predicted(answer("r", features=values))["features"].to_list()
    assert texts == ['{"x":null,"at":"2026-03-01T00:00:00Z"}', '{"x":null,"at":null}']


@given(st.integers(-5_000 * DAY, 100_000 * DAY))
def test_the_day_is_that_of_event_time_in_utc(event_us: int) -> None:
    assert predicted(answer("r", event_us=event_us))["day"][0] == from_us(event_us).date().isoformat()


def test_columns_that_do_not_fit_the_rows_are_a_defect_and_not_half_shipped() -> None:
    with pytest.raises(ValueError, match="argument"):
        predicted(answer("r", features={"x": [1.0]}))
