"""Each route answers what its type promises, from what the services gave."""

from datetime import UTC, datetime

import pytest

from trueline.domain.incidents import Incident, IncidentState


def test_a_run_goes_from_request_to_release(ask):
    status, run = ask("POST", "/api/v1/runs", {"fit": "m.py:fit", "params": {"depth": 3}, "reason": "try"})
    assert status == 201
    assert (run["id"], run["state"], run["actor"], run["params"]) == ("run-1", "queued", "local", {"depth": 3})
    assert run["created_at"] == "2026-01-01T00:00:00Z"
    assert "key_parts" not in run


def test_after_the_work_everything_can_be_read(ask, services):
    ask("POST", "/api/v1/runs", {})
    services.work_until_idle()
    assert ask("GET", "/api/v1/runs/run-1")[1]["version"] == 1
    assert ask("GET", "/api/v1/versions/1")[1]["executor"] == "onnx"
    assert ask("GET", "/api/v1/gates", version="1")[1]["items"][0]["verdict"] == "pass"
    assert ask("GET", "/api/v1/gates/gate-1")[1]["evidence"] == {"blocks": 14}
    assert ask("GET", "/api/v1/releases", version="1")[1]["items"][0]["state"] == "promoted"
    assert ask("GET", "/api/v1/releases/release-1")[1]["version"] == 1
    assert ask("GET", "/api/v1/why/run-1")[1]["links"][0]["facts"] == {"entry": "model.py:fit"}
    assert ask("GET", "/api/v1/staleness")[1]["ages"][0]["blocks"] == 21
    assert ask("GET", "/api/v1/datasets")[1]["items"][0]["rows"] == 100
    status, found = ask("GET", "/api/v1/status")
    assert (status, found["champion"], found["routes"][0]["weight"]) == (200, 1, 1.0)


def test_what_does_not_exist_is_said_to_be_missing(ask):
    for path in ("/runs/run-9", "/versions/9", "/gates/g", "/releases/r", "/why/nothing"):
        status, answer = ask("GET", f"/api/v1{path}")
        assert (status, answer["type"]) == (404, "urn:trueline:problem:not-found")


def test_lists_are_paged_newest_first(ask):
    for _ in range(5):
        ask("POST", "/api/v1/runs", {})
    first = ask("GET", "/api/v1/runs", limit="2")[1]
    assert ([run["id"] for run in first["items"]], first["next"]) == (["run-5", "run-4"], "run-4")
    second = ask("GET", "/api/v1/runs", limit="2", after="run-4")[1]
    assert [run["id"] for run in second["items"]] == ["run-3", "run-2"]
    last = ask("GET", "/api/v1/runs", limit="2", after="run-2")[1]
    assert ([run["id"] for run in last["items"]], last["next"]) == (["run-1"], None)


def test_events_are_followed_by_their_cursor(ask):
    assert ask("GET", "/api/v1/events")[1] == {"items": [], "next": 0}
    ask("POST", "/api/v1/runs", {"reason": "one"})
    ask("POST", "/api/v1/runs", {"reason": "two"})
    page = ask("GET", "/api/v1/events", limit="1")[1]
    assert ([event["reason"] for event in page["items"]], page["next"]) == (["one"], 1)
    page = ask("GET", "/api/v1/events", after="1", kind="run")[1]
    assert ([event["reason"] for event in page["items"]], page["next"]) == (["two"], 2)
    assert ask("GET", "/api/v1/events", after="2")[1] == {"items": [], "next": 2}
    assert ask("GET", "/api/v1/events", kind="release")[1]["items"] == []


def test_a_waiver_and_a_release_need_a_reason(ask, services):
    services.verdict = "fail"
    ask("POST", "/api/v1/runs", {})
    services.work_until_idle()
    assert ask("POST", "/api/v1/releases", {"version": 1, "reason": "now"})[0] == 409
    assert ask("POST", "/api/v1/versions/1/waive", {"reason": "  "})[0] == 400
    assert ask("POST", "/api/v1/versions/1/waive", {})[0] == 400
    assert ask("POST", "/api/v1/versions/1/waive", {"reason": "known"})[1]["state"] == "approved"
    assert ask("GET", "/api/v1/gates/gate-1")[1]["waived_by"] == "local"
    assert ask("POST", "/api/v1/releases", {"version": 1, "reason": "now"})[0] == 201
    status, release = ask("POST", "/api/v1/releases/release-1/promote", {"reason": "enough"})
    assert (status, release["state"]) == (200, "promoted")


def test_a_rollback_says_what_serves_now(ask, services):
    assert ask("POST", "/api/v1/rollback", {"reason": "oops"})[0] == 409
    for _ in range(2):
        ask("POST", "/api/v1/runs", {})
        services.work_until_idle()
    status, done = ask("POST", "/api/v1/rollback", {"reason": "oops"})
    assert (status, done["version"], done["release"]) == (200, 1, "release-2")


def test_an_incident_is_acknowledged_once(ask, services):
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    services.shelf_incidents["incident-1"] = Incident(
        "incident-1", "example", IncidentState.open, 1, "worse than promised", "wait", moment, None, None
    )
    assert ask("GET", "/api/v1/incidents")[1]["items"][0]["advice"] == "wait"
    assert ask("POST", "/api/v1/incidents/incident-1/acknowledge")[1]["state"] == "acknowledged"
    status, answer = ask("POST", "/api/v1/incidents/incident-1/acknowledge")
    assert status == 409
    assert "possible now: close" in answer["detail"]


@pytest.mark.parametrize(("kind", "status"), [("manual", 201), ("rehearsal", 201), ("alert", 400)])
def test_triggers_are_pulled_by_kind(kind, status, ask):
    found, run = ask("POST", "/api/v1/triggers", {"kind": kind, "reason": "see"})
    assert found == status
    assert status != 201 or run["purpose"] == kind


def test_time_is_posted_only_to_a_replaying_server(ask, services):
    status, answer = ask("POST", "/api/v1/replay", {"now": "2026-02-01T00:00:00Z"})
    assert status == 403
    assert "--replay" in answer["detail"]
    services.replaying = True
    status, answer = ask("POST", "/api/v1/replay", {"now": "2026-02-01T02:00:00+02:00"})
    assert (status, answer["now"]) == (200, "2026-02-01T00:00:00Z")
    assert ask("POST", "/api/v1/replay", {"now": "2026-01-15T00:00:00Z"})[0] == 400
    assert ask("POST", "/api/v1/replay", {"now": "2026-03-01T00:00:00"})[0] == 400
    assert ask("GET", "/api/v1/replay")[1]["replaying"] is True


def test_readiness_says_why_not(ask, services):
    assert ask("GET", "/readyz", token=None)[0] == 200
    services.sick = "the database is locked"
    status, answer = ask("GET", "/readyz", token=None)
    assert (status, answer["detail"]) == (503, "the database is locked")
    assert ask("GET", "/livez", token=None)[0] == 200
