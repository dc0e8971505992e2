"""Which label holds: redelivery, correction, revision, withdrawal."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from trueline.data.labels import SCHEMA, Labels, resolve


def raw(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([_row(number, one) for number, one in enumerate(rows)], schema=SCHEMA, orient="row")


def _row(number: int, one: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {"label_id": f"l{number:03}", "prediction_id": "p", "value": 1.0, "source": "api"}
    plain |= {"event_us": number, "received_us": number, "day": "2026-03-01", "revision": None}
    return {**dict.fromkeys(SCHEMA.names()), **plain, **one}


def held(*rows: dict[str, Any]) -> tuple[dict[str, float], int, int]:
    found = resolve(raw(*rows))
    return (
        dict(found.labels.select("prediction_id", "value").iter_rows()),
        found.duplicates,
        found.corrections,
    )


def test_no_labels_resolve_to_none() -> None:
    found = resolve(raw())
    assert found.labels.columns == ["prediction_id", "value", "event_us", "source"]
    assert (found.labels.height, found.duplicates, found.corrections) == (0, 0, 0)


def test_each_prediction_has_its_own_label() -> None:
    assert held({"prediction_id": "b", "value": 2.0}, {"prediction_id": "a"}) == ({"a": 1.0, "b": 2.0}, 0, 0)


def test_the_same_value_again_is_a_duplicate_and_changes_nothing() -> None:
    found = resolve(raw({}, {}, {}))
    assert found.labels.rows() == [("p", 1.0, 0, "api")]
    assert (found.duplicates, found.corrections) == (2, 0)


def test_a_new_value_is_a_correction_and_holds() -> None:
    assert held({}, {"value": 3.0}) == ({"p": 3.0}, 0, 1)


def test_going_back_to_an_old_value_is_a_correction_too() -> None:
    assert held({}, {"value": 3.0}, {"value": 1.0}) == ({"p": 1.0}, 0, 2)


def test_the_highest_revision_holds_however_late_a_lower_one_comes() -> None:
    rows = ({"revision": 2, "value": 5.0}, {"revision": 1, "value": 4.0}, {"value": 3.0})
    assert held(*rows) == ({"p": 5.0}, 0, 0)


def test_another_source_is_another_label_and_the_last_one_holds() -> None:
    assert held({}, {"source": "audit", "value": 2.0}) == ({"p": 2.0}, 0, 0)


def test_a_redelivery_does_not_win_against_another_source_that_came_after_the_original() -> None:
    assert held({}, {"source": "audit", "value": 2.0}, {}) == ({"p": 2.0}, 1, 0)


def test_a_null_value_withdraws_the_label_and_a_later_one_gives_it_again() -> None:
    assert held({}, {"value": None}) == ({}, 0, 1)
    assert held({}, {"value": None}, {"value": None}) == ({}, 1, 1)
    assert held({}, {"value": None}, {"value": 4.0}) == ({"p": 4.0}, 0, 2)


def test_labels_that_arrived_in_the_same_moment_are_ordered_by_their_ids() -> None:
    rows = ({"event_us": 0, "received_us": 0, "value": 1.0}, {"event_us": 0, "received_us": 0, "value": 2.0})
    assert held(*rows) == ({"p": 2.0}, 0, 1)


arrivals = st.lists(
    st.fixed_dictionaries(
        {
            "prediction_id": st.sampled_from("pq"),
            "source": st.sampled_from(["api", "audit"]),
            "revision": st.sampled_from([None, 0, 1]),
            "value": st.sampled_from([None, 0.0, 1.0, float("nan")]),
            "event_us": st.integers(0, 3),
            "received_us": st.integers(0, 3),
        }
    ),
    max_size=14,
)


def model(rows: list[dict[str, Any]]) -> tuple[list[tuple[Any, ...]], int, int]:
    """The rules of the module's first lines, one row at a time."""
    known: dict[Any, Any] = {}
    best: dict[str, tuple[Any, Any]] = {}
    duplicates = corrections = 0
    order = sorted(rows, key=lambda one: (one["event_us"], one["received_us"], one["label_id"]))
    for place, one in enumerate(order):
        key = (one["prediction_id"], one["source"], one["revision"])
        value = str(one["value"])
        if key in known and known[key] == value:
            duplicates += 1
            continue
        corrections += key in known
        known[key] = value
        rank = (-1 if one["revision"] is None else one["revision"], place)
        if one["prediction_id"] not in best or rank > best[one["prediction_id"]][0]:
            best[one["prediction_id"]] = (rank, one)
    labels = [
        (name, str(one["value"]), one["event_us"], one["source"])
        for name, (_, one) in sorted(best.items())
        if one["value"] is not None
    ]
    return labels, duplicates, corrections


@given(arrivals, st.randoms(use_true_random=False))
def test_resolving_follows_the_rules_in_whatever_order_the_rows_are_read(
    rows: list[dict[str, Any]], shuffling: random.Random
) -> None:
    frame = raw(*rows)
    labels, duplicates, corrections = model(frame.to_dicts())
    places = list(range(frame.height))
    shuffling.shuffle(places)
    found = resolve(frame[places])
    assert [(name, str(value), at, source) for name, value, at, source in found.labels.rows()] == labels
    assert (found.duplicates, found.corrections) == (duplicates, corrections)


@given(arrivals)
def test_delivering_everything_once_more_changes_no_label_that_was_not_corrected(rows: list[dict[str, Any]]) -> None:
    once = resolve(raw(*rows))
    again = [{**one, "event_us": 9, "received_us": 9} for one in rows]
    twice = resolve(raw(*rows, *again))
    if once.corrections == 0:
        assert twice.labels.equals(once.labels)
        assert twice.duplicates == once.duplicates + len(rows)


def test_labels_are_read_by_the_day_they_arrived(tmp_path: Path) -> None:
    table = Labels(tmp_path / "labels")
    assert table.read("2026-03-01").schema == SCHEMA
    days = ("2026-02-28", "2026-03-01", "2026-03-02", "2026-03-03")
    frame = raw(*({"day": day, "prediction_id": day} for day in days))
    write_deltalake(tmp_path / "labels", frame, partition_by=["day"])
    assert table.read("2026-03-01")["day"].to_list() == list(days[1:])
    assert table.read("2026-03-01", "2026-03-02")["day"].to_list() == list(days[1:3])
