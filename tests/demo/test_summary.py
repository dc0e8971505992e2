from __future__ import annotations

import json
from datetime import datetime, timedelta

import msgspec
import numpy as np
import pytest

from trueline.demo.flights import START, Flights
from trueline.demo.ledger import Ledger
from trueline.demo.planted import PLANS, Push
from trueline.demo.summary import Stopped, Year, false_page
from trueline.web.api.events import EventView
from trueline.web.api.incidents import IncidentView
from trueline.web.api.releases import ReleaseView


def incident(opened: datetime, version: int = 1) -> IncidentView:
    return IncidentView(
        id="incident-1", state="open", version=version, reason="worse than promised", advice="retrain", opened_at=opened
    )


def event(number: int, kind: str, at: datetime, ref: str = "release-1", **detail) -> EventView:
    return EventView(id=number, at=at, wall_at=at, kind=kind, ref=ref, actor="control", reason="because", detail=detail)


@pytest.fixture
def ledger(drawn: Flights) -> Ledger:
    served = drawn.served
    truth = np.array([np.nan if one.air_time is None else one.air_time for one in served])
    made = Ledger(served, frozen=truth + 12, monthly=truth - 6)
    for flight in served:
        late = flight.scheduled >= START + timedelta(days=14)
        made.answered(flight, (flight.air_time or 0) + (5 if late else 8), 2 if late else 1, f"p-{flight.number}")
    return made


@pytest.fixture
def year(ledger: Ledger) -> Year:
    push = Push(PLANS[0])
    push.run, push.version, push.verdict, push.reason = "run-2", 2, "fail", "useless live"
    bad = Push(PLANS[1])
    bad.run, bad.version, bad.verdict, bad.reason = "run-3", 3, "fail", "in the wrong units"
    release = ReleaseView(
        id="release-9", state="rolled_back", version=3, step=0, vouched=False, evidence={}, reason="waived", actor="Kim",
        created_at=START, stage_since=START, requests_answered=84, rollback_ms=29.2,
    )  # fmt: skip
    events = [
        event(1, "release.promote", START, version=1),
        event(2, "release.promote", START + timedelta(days=14), version=2),
        event(3, "release.roll_back", START + timedelta(days=20), ref="release-9", version=3),
        event(4, "incident.open", START + timedelta(days=7), ref="incident-1", version=1, reference=7.9),
    ]
    stopped = [Stopped(push, None), Stopped(bad, release)]
    return Year(ledger, events, [incident(START + timedelta(days=7))], stopped, len(ledger.flights), 100, 12.34)


def test_the_first_release_is_no_promotion(year):
    assert [one.detail["version"] for one in year.promotions] == [2]
    assert [month.promotions for month in year.months()] == [1]


def test_errors_are_of_landed_flights_only(ledger):
    end = START + timedelta(days=28)
    assert ledger.mae("frozen", START, end) == pytest.approx(12)
    assert ledger.mae("trueline", START, end, version=1) == pytest.approx(8)
    assert np.isnan(ledger.errors("trueline")).sum() == 2


def test_weekly_series_cover_the_ledger_from_its_first_day(ledger):
    firsts, errors = ledger.series("trueline")
    assert [str(day) for day in firsts] == ["2013-02-01", "2013-02-08", "2013-02-15", "2013-02-22"]
    assert errors == pytest.approx([8, 8, 5, 5])


def test_a_page_is_false_when_the_paged_model_stays_near_its_reference(ledger):
    assert false_page(ledger, incident(START), 7.5)
    assert not false_page(ledger, incident(START), 7.0)


def test_a_page_about_a_model_that_answers_no_more_is_not_held_against_anybody(ledger):
    assert not false_page(ledger, incident(START + timedelta(days=20), version=1), 100.0)


def test_the_object_has_the_issues_keys_and_is_json(year):
    told = json.loads(msgspec.json.encode(year.as_dict()))
    assert set(told["may_sep_mae"]) == {"frozen", "monthly", "trueline"}
    assert told["incidents"] == [{"opened": "2013-02-08T00:00:00Z", "closed": None, "reason": "worse than promised"}]
    assert told["gate_stopped"] == {"version": 2, "verdict": "fail", "reason": "useless live"}
    assert told["canary_rolled_back"] == {
        "version": 3, "requests_answered": 84, "rollback_ms": 29.2, "reason": "because",
    }  # fmt: skip
    assert (told["acknowledged"], told["stored"], told["false_pages"]) == (112, 112, 1)
    assert told["seconds"] == 12.3


def test_a_year_too_short_for_the_summer_says_so_with_null(year):
    assert year.as_dict()["may_sep_mae"] == {"frozen": None, "monthly": None, "trueline": None}
