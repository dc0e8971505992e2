from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest

from trueline.demo.flights import START, Flights
from trueline.demo.ledger import Ledger
from trueline.demo.planted import FEED, PLANS, Push
from trueline.demo.program import sentences
from trueline.demo.summary import AUTUMN, Stopped, Year, false_fault, false_page
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


def fault(opened: datetime, feature: str = "distance", where: str = f"carrier={FEED.carrier}") -> IncidentView:
    cause = {"feature": feature, "slice": where, "since": "2013-10-01", "until": "2013-10-15"}
    return IncidentView(
        id="incident-2", state="closed", version=2, reason="it broke", advice="upstream_fault", opened_at=opened,
        closed_at=opened + timedelta(days=13), kind="upstream", cause=cause,
    )  # fmt: skip


def test_the_broken_feed_is_told_with_its_feature_slice_and_advice(year):
    told = replace(year, incidents=[fault(FEED.since + timedelta(days=5))]).as_dict()
    assert {name: told["upstream_fault"][name] for name in ("feature", "slice", "advice", "promoted_meanwhile")} == {
        "feature": "distance", "slice": f"carrier={FEED.carrier}", "advice": "upstream_fault", "promoted_meanwhile": 0,
    }  # fmt: skip
    assert told["false_pages"] == 0
    assert year.as_dict()["upstream_fault"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        fault(FEED.since + timedelta(days=5), feature="departs"),
        fault(FEED.since + timedelta(days=5), where="dest=ATL"),
        fault(FEED.since - timedelta(days=50)),
    ],
)
def test_an_input_that_was_not_broken_is_a_false_page(year, wrong):
    assert false_fault(wrong, FEED)
    assert replace(year, incidents=[wrong]).false_pages() == 1


@pytest.mark.parametrize(("version", "action"), [(1, "re_promote"), (3, "retrain")])
def test_autumn_says_what_the_loop_did_and_why(year, version, action):
    moved = AUTUMN + timedelta(days=20)
    asked = event(5, "gate.create", moved - timedelta(days=2), ref="gate-9", version=version)
    events = [*year.events, asked, event(6, "release.promote", moved, version=version)]
    told = replace(year, events=events).autumn()
    assert told == {"action": action, "version": version, "at": "2013-10-21T00:00:00Z", "reason": "because"}
    assert year.autumn() is None


def test_the_end_tells_the_fault_and_the_autumn(year):
    moved = event(6, "release.promote", AUTUMN + timedelta(days=20), version=1)
    told = replace(year, events=[*year.events, moved], incidents=[fault(FEED.since + timedelta(days=5))])
    said = "\n".join(sentences(told))
    assert f"Upstream fault: distance in carrier={FEED.carrier}, since 2013-10-01, found on 2013-10-06" in said
    assert "Autumn, 2013-10-21: re_promote version 1." in said


def test_the_planted_feed_is_the_same_for_every_policy(drawn):
    feed = replace(FEED, carrier="B6", since=START, until=START + timedelta(days=2))
    asked = [feed.row(flight)["distance"] for flight in drawn.served]
    told = feed.flights(drawn).frame.filter(pl.col("scheduled") >= START)["distance"].to_list()
    assert asked == told
    assert sum(a != b.row["distance"] for a, b in zip(asked, drawn.served, strict=True)) == 8
