from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from trueline.control import quarantine
from trueline.domain.incidents import Incident, IncidentKind, IncidentState

START = datetime(2026, 3, 1, tzinfo=UTC)
CAUSE = {"feature": "distance", "slice": "carrier=DL", "since": "2026-03-03", "until": "2026-03-06"}


def fault(**changes):
    kind, state = IncidentKind.upstream, IncidentState.closed
    cause = {**CAUSE, **changes}
    return Incident("incident-1", "p", state, 1, "it broke", "upstream_fault", START, START, "over", kind, cause)


@pytest.fixture
def rows():
    """Two carriers a day for eight days, served but for the first two days."""
    days = [START + timedelta(days=day, hours=hour) for day in range(8) for hour in (1, 23)]
    return pl.DataFrame(
        {
            "at": days,
            "carrier": ["DL", "UA"] * 8,
            "_origin": ["source"] * 4 + ["feedback"] * 12,
        }
    )


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [
        ({}, 3),
        ({"slice": "all"}, 6),
        ({"until": None}, 6),
        ({"since": "2026-02-01"}, 3),
        ({"input_back": False}, 0),
        ({"slice": "airport=JFK"}, 0),
    ],
)
def test_the_served_rows_of_the_slice_on_the_days_of_the_fault_are_spoilt(rows, changes, left_out):
    assert int(quarantine.spoilt(rows, [fault(**changes)], "at").sum()) == left_out


def test_without_faults_time_or_origin_nothing_is_spoilt(rows):
    assert not quarantine.spoilt(rows, [], "at").any()
    assert not quarantine.spoilt(rows, [fault()], None).any()
    assert not quarantine.spoilt(rows.drop("_origin"), [fault()], "at").any()
