"""What the pages tell: from the fake and from real tables, escaped, linked, and bounded."""

import re
from datetime import UTC, date, datetime, timedelta
from html import escape
from pathlib import Path

import pytest
from browsing import Browser, Elements
from sqlalchemy import event

from trueline.domain.events import Event
from trueline.domain.incidents import Incident, IncidentKind, IncidentState
from trueline.errors import Unavailable
from trueline.web.pages import picture, story

ROOT = Path(__file__).parents[2]
EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


@pytest.fixture
def working(services):
    """The fake after one round of the loop, with ten labelled days."""
    services.start_run(fit=None, params={"depth": 3}, source=None, release=True, reason="first", actor="ada")
    services.work_until_idle()
    first = date(2026, 1, 1)
    services.shelf_days += [
        {"day": first + timedelta(days=n), "predictions": 50, "labelled": 40, "loss": 1.0 + n / 10, "champion": 1}
        for n in range(10)
    ]
    return services


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def shown(request, houses):
    """The same story in the fake and in tables."""
    services = request.getfixturevalue("working") if request.param == "fake" else houses(request.param)
    return Browser(services).log_in()


def test_the_first_page_says_what_serves_and_how_well(shown):
    page = shown.page("/")
    assert page.of("h1")[0]["text"] == "Version 1 serves"
    assert "mean absolute error" in page.of("dl")[0]["text"]
    assert len(page.of("svg")) == 2
    assert page.of("rect", **{"class": "reign t1"})
    assert page.of("line", **{"class": "limit"})
    days = page.of("tr")[1:]
    assert len(days) in {10, 40}
    assert days[-1]["text"].strip().endswith("v1")
    told = page.of("span", **{"class": "word good"})
    assert [one["text"] for one in told] == ["promoted", "gate: pass"]


@pytest.mark.parametrize(
    ("path", "title", "said"),
    [
        ("/runs/run-1", "Training", "depth: 3"),
        ("/versions/1", "Version 1", "onnx"),
        ("/gates/gate-1", "Gate of version 1", "version 1"),
        ("/releases/release-1", "Release of version 1", "needs"),
    ],
)
def test_each_thing_has_its_page(path, title, said, shown):
    page = shown.page(path)
    assert page.of("h1")[0]["text"] == title
    assert said in page.of("main")[0]["text"]
    assert page.of("ol", id="timeline") or title == "Version 1"
    assert "/" in page.links


def test_every_link_of_every_page_leads_somewhere(shown):
    seen, waiting = set(), ["/"]
    while waiting:
        path = waiting.pop().split("#")[0]
        if path in seen or not path:
            continue
        seen.add(path)
        links = shown.page(path).links
        waiting += links if "?" not in path else []
    assert {"/runs/run-1", "/versions/1", "/gates/gate-1", "/releases/release-1"} <= seen


def test_pages_have_a_heading_landmarks_and_a_language(shown):
    for path in ("/", "/runs/run-1"):
        page = shown.page(path)
        assert len(page.of("h1")) == len(page.of("main")) == len(page.of("header")) == len(page.of("footer")) == 1
        assert page.of("html", lang="en")
        assert all(field.get("id") in {label.get("for") for label in page.of("label")} for field in page.of("input"))
        ids = [element["id"] for element in page.found if "id" in element]
        assert len(ids) == len(set(ids))


def test_the_timeline_is_told_by_kind(shown):
    words = lambda page: [one["text"].split()[0] for one in page.found if one.get("class", "").startswith("word")]  # noqa: E731
    assert set(words(shown.page("/?show=gates"))) == {"gate:"}
    assert "promoted" in words(shown.page("/?show=releases"))
    assert words(shown.page("/?show=incidents")) == []


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ("run-1", "/runs/run-1"),
        ("v1", "/versions/1"),
        (" 7 ", "/versions/7"),
        ("", "/"),
        ("r0/a b", "/predictions/r0%2Fa%20b"),
    ],
)
def test_whatever_has_an_id_is_found(wanted, where, shown):
    answer = shown.get("/find", params={"id": wanted})
    assert (answer.status_code, answer.headers["location"]) == (303, where)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/runs/run-9", 404, "run-9"),
        ("/versions/9", 404, "version 9"),
        ("/versions/99999999999999999999", 404, "no version"),
        ("/nothing", 404, "/nothing"),
        ("/?days=7", 400, "days must be one of"),
        ("/?until=yesterday", 400, "wrong"),
        ("/?show=all", 400, "show must be"),
        ("/?more=1", 400, "more"),
    ],
)
def test_what_is_not_there_is_a_sentence_on_a_page(path, status, said, shown):
    answer = shown.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert said in answer.text


def test_a_defect_tells_no_internals(browser, services, monkeypatch, caplog):
    monkeypatch.setattr(services, "status", lambda: 1 / 0)
    answer = browser.get("/")
    assert answer.status_code == 500
    assert "division" not in answer.text
    assert "division" in caplog.text


def test_trouble_is_a_page_with_its_sentence(browser, services, monkeypatch):
    def away():
        raise Unavailable("the database cannot be used now")

    monkeypatch.setattr(services, "status", away)
    answer = browser.get("/")
    assert answer.status_code == 503
    assert "the database cannot be used now" in answer.text


def test_nothing_has_happened_yet(browser):
    page = browser.page("/")
    assert page.of("h1")[0]["text"] == "Nothing serves yet"
    assert [one["text"].split(".")[0] for one in page.of("p", **{"class": "empty"})] == [
        "No day has been judged yet",
        "Nothing yet",
    ]


def test_what_people_and_programs_write_stays_text(browser, services):
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    services.start_run(fit=EVIL, params={EVIL: EVIL}, source=None, release=True, reason=EVIL, actor=EVIL)
    services.work_until_idle()
    services.shelf_incidents["incident-1"] = Incident(
        id="incident-1",
        project="example",
        state=IncidentState.open,
        version=1,
        reason=EVIL,
        advice=EVIL,
        opened_at=moment,
        closed_at=None,
        closed_reason=EVIL,
    )
    services.shelf_days.append({"day": moment.date(), "predictions": 1, "labelled": 1, "loss": 1.0, "champion": 1})
    for kind, ref in (("run.create", EVIL), (EVIL, "run-1"), ("incident.open", "incident-1")):
        number = len(services.shelf_events) + 1
        services.shelf_events.append(Event(number, moment, moment, "example", kind, ref, EVIL, EVIL, {"version": EVIL}))
    for path in ("/", "/runs/run-1", "/versions/1", "/gates/gate-1", "/releases/release-1", "/incidents/incident-1"):
        answer = browser.get(path)
        assert answer.status_code == 200
        assert "<script>" not in answer.text
        assert "<img src=x" not in answer.text
        assert escape("<script>", quote=False) in answer.text or path in {
            "/versions/1",
            "/gates/gate-1",
            "/releases/release-1",
        }
    answer = browser.get("/find", params={"id": EVIL})
    assert "<" not in answer.headers["location"]
    assert "<script>" not in browser.get(answer.headers["location"]).text


def test_an_open_incident_is_the_first_thing_said(past):
    past.incident("the live model is worse than promised")
    services = past.services()
    page = Browser(services).log_in().page("/")
    alert = page.of("div", role="alert")[0]["text"]
    assert "incident-1 is open" in alert
    assert "Advice: wait" in alert
    assert "Suspected: input rooms in city=A (80% of the loss)" in alert
    assert page.of("rect", **{"class": "bar bad"})
    incident = Browser(services).log_in().page("/incidents/incident-1")
    assert "worse than promised" in incident.of("p", **{"class": "lead"})[0]["text"]
    assert "rooms in city=A doubled" in incident.of("table")[0]["text"]
    assert any("until=" in link for link in incident.links)


def test_why_routes_are_not_on_every_server_is_said(browser, services, monkeypatch):
    told = services.status
    assert not browser.page("/").of("div", **{"class": "notice warn"})
    monkeypatch.setattr(services, "status", lambda: {**told(), "undelivered": "serve-r0 <b>loads</b> version 3"})
    (notice,) = browser.page("/").of("div", **{"class": "notice warn"})
    assert notice["text"] == "The routes are not on every server yet: serve-r0 <b>loads</b> version 3"


def test_predictions_that_go_unrecorded_are_said_once_by_the_server_or_by_its_incident(browser, services, monkeypatch):
    full = "the journal j cannot be written (No space left on device); free some disk space"
    told = services.status
    recording = [{"replica": "r0", "unrecorded": 1200, "problem": full}, {"replica": "r1", "unrecorded": 5}]
    monkeypatch.setattr(services, "status", lambda: {**told(), "recording": recording})
    (alert,) = browser.page("/").of("div", role="alert")
    assert alert["text"].strip() == f"{full}; 1,200 predictions went unrecorded"
    services.shelf_incidents["incident-1"] = Incident(
        id="incident-1",
        project="example",
        state=IncidentState.open,
        version=1,
        reason=f"{full}; 1205 predictions went unrecorded",
        advice="make_room",
        opened_at=datetime(2026, 1, 1, tzinfo=UTC),
        closed_at=None,
        closed_reason=None,
        kind=IncidentKind.journal,
        cause={"unrecorded": 1205, "servers": "r0"},
    )
    (alert,) = browser.page("/").of("div", role="alert")
    assert "incident-1 is open" in alert["text"]
    assert "Advice: make room" in alert["text"]
    page = browser.page("/incidents/incident-1")
    assert page.of("h1")[0]["text"] == "Predictions go unrecorded"
    assert "1,205" in page.of("main")[0]["text"] or "1205" in page.of("main")[0]["text"]


def test_older_events_come_page_by_page_each_once(past):
    made = past.events(100)
    services = past.services()
    browser, path, seen = Browser(services).log_in(), "/?show=training", []
    while path:
        page = browser.page(path)
        seen += [int(item["data-event"]) for item in page.of("li") if "data-event" in item]
        path = next((link["href"] for link in page.of("a", rel="next")), None)
    assert seen == sorted(seen, reverse=True)
    assert set(made) < set(seen)
    assert len(seen) == len(set(seen))


def counted(services, look):
    """What one look costs: statements, and rows that came back."""
    engine, cost = services._store._database.engine, {"statements": 0}

    def count(*_):
        cost["statements"] += 1

    event.listen(engine, "before_cursor_execute", count)
    try:
        look()
    finally:
        event.remove(engine, "before_cursor_execute", count)
    return cost["statements"]


def test_three_years_and_ten_thousand_events_cost_no_more_statements(past):
    services = past.services()
    browser = Browser(services).log_in()
    little = counted(services, lambda: browser.page("/?days=1096"))
    past.days(1060)
    past.events(10_000)
    services = past.services()
    browser = Browser(services).log_in()
    assert counted(services, lambda: browser.page("/?days=1096")) <= little
    answer = browser.get("/")
    assert len(answer.text) < 400_000
    page = Elements(answer.text)
    assert len(page.of("tr")) == 367
    assert "until=" in page.of("a", rel="prev")[0]["href"]


def test_every_event_of_the_story_is_one_that_the_log_knows():
    known = re.findall(r"^\| `([a-z]+\.[a-z_]+)`", (ROOT / "docs" / "events.md").read_text(), re.MULTILINE)
    assert set(story.TOLD) <= set(known)
    assert {telling.lane for telling in story.TOLD.values()} == set(story.LANES)
    assert {telling.tone for telling in story.TOLD.values()} <= set(picture.SHAPES)


def test_a_run_shows_what_it_printed_and_follows_it_while_it_runs(shown, services):
    said = shown.page("/runs/run-1").of("div", **{"class": "log"})
    assert not said or "data-ended" in said[0]
    services.start_run(fit=None, params={}, source=None, release=True, reason="one more", actor="ada")
    page = Browser(services).log_in().page(f"/runs/run-{len(services.shelf_runs)}")
    (log,) = page.of("div", **{"class": "log"})
    assert ("data-ended" in log, log["data-next"]) == (False, ":1")
    assert page.of("pre")[0]["text"].strip() == f"fitting run-{len(services.shelf_runs)}"
