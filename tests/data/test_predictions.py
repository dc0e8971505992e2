"""The predictions table as its readers see it, with real Delta tables."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from trueline.data import predictions
from trueline.data.predictions import SCHEMA, Predictions, features
from trueline.domain.contracts import Column, Kind
from trueline.errors import Unavailable

DAY = "2026-03-01"
AT = 1_772_323_200_000_000  # its first microsecond


def row(prediction: str = "r-1-0", /, **given: Any) -> dict[str, Any]:
    plain: dict[str, Any] = dict.fromkeys(SCHEMA.names())
    plain |= {"prediction_id": prediction, "request_id": "r-1", "row": 0, "event_us": AT, "received_us": AT, "day": DAY}
    plain |= {"version": 1, "arm": "champion", "weight": 1.0, "outcome": "answered", "features": '{"x":1.5}'}
    return plain | given


def write(table: Path, *rows: dict[str, Any]) -> None:
    write_deltalake(table, pl.DataFrame(list(rows), schema=SCHEMA, orient="row"), mode="append", partition_by=["day"])


def frame(*texts: str | None) -> pl.DataFrame:
    rows = [row(f"r-{number}", features=text) for number, text in enumerate(texts)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_before_the_first_shipment_every_day_is_empty_and_has_the_schema(tmp_path: Path) -> None:
    table = Predictions(tmp_path / "predictions")
    assert table.read_day(DAY).schema == SCHEMA
    assert table.read_day(DAY).is_empty()
    assert table.days() == []
    assert predictions.find(tmp_path / "predictions", "r-1-0") is None


def test_a_day_is_read_in_order_with_its_shadow_scores_and_without_other_days(tmp_path: Path) -> None:
    shadow = {"arm": "shadow", "version": 2, "features": None}
    write(tmp_path, row("b", event_us=AT + 5), row("a", event_us=AT + 5, **shadow), row("a", event_us=AT + 5))
    write(tmp_path, row("c", event_us=AT), row("d", day="2026-03-02"))
    found = Predictions(tmp_path).read_day(DAY)
    assert found.schema == SCHEMA
    assert found.select("prediction_id", "version").rows() == [("c", 1), ("a", 1), ("a", 2), ("b", 1)]
    assert Predictions(tmp_path).days() == [DAY, "2026-03-02"]


def test_a_reader_that_stays_open_sees_every_commit_of_another_writer(tmp_path: Path) -> None:
    reader = Predictions(tmp_path / "predictions")
    for number in range(1, 4):
        write(tmp_path / "predictions", row(f"r-{number}-0"))
        assert reader.read_day(DAY).height == number


def test_find_gives_the_row_that_answered_with_its_features_decoded(tmp_path: Path) -> None:
    write(tmp_path, row("p", arm="shadow", version=2, features=None), row("p", features='{"x":1.5,"c":null}'))
    found = predictions.find(tmp_path, "p")
    assert found is not None
    assert found["version"] == 1
    assert found["features"] == {"x": 1.5, "c": None}
    assert predictions.find(tmp_path, "q") is None


def test_find_does_not_take_a_shadow_score_for_an_answer(tmp_path: Path) -> None:
    write(tmp_path, row("p", arm="shadow", version=2, features=None))
    assert predictions.find(tmp_path, "p") is None


def test_a_table_whose_files_are_gone_says_so_in_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, row())
    for file in tmp_path.rglob("*.parquet"):
        file.unlink()
    with pytest.raises(Unavailable, match="cannot be read"):
        Predictions(tmp_path).read_day(DAY)


COLUMNS = (
    Column("i", Kind.integer),
    Column("s", Kind.float32),
    Column("d", Kind.float64),
    Column("t", Kind.string),
    Column("b", Kind.boolean),
    Column("at", Kind.datetime),
)


def test_features_are_typed_by_the_contract() -> None:
    text = '{"i":3.0,"s":1,"d":0.1,"t":"é","b":true,"at":"2026-03-01T01:00:00+01:00"}'
    found = features(frame(text), COLUMNS)
    assert found.columns == ["_prediction_id", "i", "s", "d", "t", "b", "at"]
    assert found.dtypes[1:4] == [pl.Int64, pl.Float32, pl.Float64]
    assert found.row(0) == ("r-0", 3, 1.0, 0.1, "é", True, datetime(2026, 3, 1, tzinfo=UTC))


def test_a_time_without_an_offset_is_utc() -> None:
    found = features(frame('{"at":"2026-03-01"}'), (Column("at", Kind.datetime),))
    assert found["at"].to_list() == [datetime(2026, 3, 1, tzinfo=UTC)]


def test_what_a_row_lacks_or_has_of_another_kind_is_null() -> None:
    texts = ("{}", '{"i":"seven","s":true,"d":"x","t":4,"b":0,"at":"soon"}', '{"i":2.5,"s":1e39,"at":5,"more":1}')
    found = features(frame(*texts), COLUMNS)
    assert found.drop("_prediction_id").null_count().row(0) == (3,) * 6


def test_rows_without_features_are_left_out_and_the_others_keep_their_order() -> None:
    found = features(frame('{"d":2}', None, '{"d":1}'), (Column("d", Kind.float64),))
    assert found.rows() == [("r-0", 2.0), ("r-2", 1.0)]


def test_no_rows_are_a_typed_frame_too() -> None:
    found = features(frame(), COLUMNS)
    assert found.is_empty()
    assert found.schema["at"] == pl.Datetime("us", "UTC")


values = st.fixed_dictionaries(
    {},
    optional={
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "d": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "t": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        "b": st.none() | st.booleans(),
    },
)


@given(st.lists(values, max_size=5))
def test_features_come_back_exactly_as_they_were_served(rows: list[dict[str, Any]]) -> None:
    columns = tuple(column for column in COLUMNS if column.name in "idtb")
    found = features(frame(*(json.dumps(one) for one in rows)), columns)
    assert found.drop("_prediction_id").to_dicts() == [{name: one.get(name) for name in "idtb"} for one in rows]


def test_ids_that_no_row_has_are_told_wherever_the_others_are(tmp_path: Path) -> None:
    table = Predictions(tmp_path / "predictions")
    asked = pl.Series(["a", "b", "c", "c", "d"])
    assert table.unknown(asked, DAY).sort().to_list() == ["a", "b", "c", "d"]
    shadow = {"arm": "shadow", "version": 2, "features": None}
    write(tmp_path / "predictions", row("a"), row("a", **shadow), row("b", day="2025-01-01"))
    assert table.unknown(asked, DAY).sort().to_list() == ["c", "d"]
    assert table.unknown(asked, "2027-01-01").sort().to_list() == ["c", "d"]
    assert table.unknown(asked.clear(), DAY).is_empty()


SENT = "key-" + "0123456789abcdef" * 2


def sent(row_number: int = 0, **given: Any) -> dict[str, Any]:
    return row(
        f"{SENT}-{row_number}", **{"request_id": SENT, "row": row_number, "prediction": 1.0, "replica": "r0"} | given
    )


def told(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    return frame.select("prediction_id", "version", "arm", "replica").rows()


def test_a_request_that_was_answered_twice_under_its_key_is_read_once_as_it_was_answered_first(tmp_path: Path) -> None:
    scored = {"arm": "shadow", "version": 2, "features": None}
    first = (sent(), sent(1), sent(**scored), sent(1, **scored))
    again = {"received_us": AT + 9, "replica": "r1", "version": 2, "arm": "canary"}
    second = (sent(**again), sent(1, **again), sent(**again | {"arm": "shadow", "version": 1}))
    write(tmp_path, *second, row("other", request_id=None))
    write(tmp_path, *first)
    wanted = [(f"{SENT}-{number}", *rest) for number in (0, 1) for rest in ((1, "champion", "r0"), (2, "shadow", "r0"))]
    assert told(Predictions(tmp_path).read_day(DAY)) == [*wanted, ("other", 1, "champion", None)]
    found = predictions.find(tmp_path, f"{SENT}-1")
    assert found is not None
    assert found["replica"] == "r0"


def test_an_answer_goes_before_an_attempt_that_failed(tmp_path: Path) -> None:
    write(tmp_path, sent(prediction=None, outcome="failed"), sent(received_us=AT + 5, replica="r1"))
    assert told(Predictions(tmp_path).read_day(DAY)) == [(f"{SENT}-0", 1, "champion", "r1")]


def test_a_request_that_came_again_on_another_day_belongs_to_the_day_of_its_first_answer(tmp_path: Path) -> None:
    later = {"event_us": AT + 86_400_000_000, "received_us": AT + 86_400_000_000, "day": "2026-03-02"}
    write(tmp_path, sent(), sent(**later), row("x", **later), row("y", request_id=None, **later))
    table = Predictions(tmp_path)
    assert table.read_day(DAY).height == 1
    assert table.read_day("2026-03-02")["prediction_id"].to_list() == ["x", "y"]
    assert table.read_days(DAY, "2026-03-02").height == 3


def test_only_keyed_requests_are_looked_at_twice(tmp_path: Path) -> None:
    write(tmp_path, row("a", request_id="key-5f1.1.0-1"), row("a", request_id="key-5f1.1.0-1"))
    assert Predictions(tmp_path).read_day(DAY).height == 2
