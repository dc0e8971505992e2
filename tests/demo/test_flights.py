from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trueline.demo import flights
from trueline.demo.flights import Flights
from trueline.errors import InvalidData


def test_the_same_seed_draws_the_same_flights(table: Path):
    one, two, other = (flights.load(seed=seed, size=100, source=table).frame for seed in (3, 3, 4))
    assert one.equals(two)
    assert not one.equals(other)


def test_the_archive_is_january_with_what_was_known_only_later(drawn: Flights):
    january = drawn.january
    assert january["scheduled"].max() < flights.START
    assert january.height == 31 * 4
    assert january.columns == list(flights.ARCHIVE)
    assert january["air_time"].null_count() == january["gate_to_gate"].null_count() == 3


def test_a_served_row_knows_nothing_that_only_landing_tells(drawn: Flights):
    flight = drawn.served[0]
    assert set(flight.row) == {*flights.SCHEDULE, "gate_to_gate"}
    assert flight.row["gate_to_gate"] is None
    assert "air_time" not in flight.row
    assert datetime.fromisoformat(flight.row["scheduled"]) == flight.scheduled


def test_a_label_arrives_when_the_flight_lands_and_never_for_a_cancelled_one(drawn: Flights):
    cancelled = [flight for flight in drawn.served if flight.air_time is None]
    assert len(cancelled) == 2
    assert all(flight.landed is None for flight in cancelled)
    landed = next(flight for flight in drawn.served if flight.air_time is not None)
    assert landed.landed == landed.scheduled + timedelta(minutes=landed.air_time)


def test_flights_are_numbered_in_the_order_they_leave(drawn: Flights):
    served = drawn.served
    assert [flight.number for flight in served] == list(range(len(served)))
    assert [flight.scheduled for flight in served] == sorted(flight.scheduled for flight in served)
    assert served[0].scheduled >= datetime(2013, 2, 1, tzinfo=UTC)


def test_every_flight_has_an_id_of_its_own(drawn: Flights):
    assert drawn.frame["flight_id"].n_unique() == drawn.frame.height


def test_too_small_a_table_is_said(table: Path):
    with pytest.raises(InvalidData, match="draws 1000 of them"):
        flights.load(size=1000, source=table)


def test_a_missing_package_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flights, "find_spec", lambda _: None)
    with pytest.raises(InvalidData, match=r"pip install 'trueline\[demo\]'"):
        flights.find()
