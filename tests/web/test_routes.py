"""Each route answers what its type promises, from what the services gave."""

from datetime import UTC, date, datetime

import pytest
from browsing import TOKEN

from trueline.domain.incidents import Incident, IncidentState
from trueline.security import tokens
from trueline.web.api.calls import ApiRequest, Following
from trueline.web.api.router import dispatch


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


def test_the_timeline_is_the_log_backwards(ask):
    for reason in ("one", "two", "three"):
        ask("POST", "/api/v1/runs", {"reason": reason})
    page = ask("GET", "/api/v1/timeline", limit="2")[1]
    assert ([event["reason"] for event in page["items"]], page["next"]) == (["three", "two"], 2)
    page = ask("GET", "/api/v1/timeline", before="2", kinds="run.create,run.fail")[1]
    assert ([event["reason"] for event in page["items"]], page["next"]) == (["one"], None)
    assert ask("GET", "/api/v1/timeline", kinds="gate.decide")[1] == {"items": [], "next": None}
    assert [event["id"] for event in ask("GET", "/api/v1/timeline", ref="run-2")[1]["items"]] == [2]


def test_the_performance_curve_is_asked_by_length(ask, services):
    services.shelf_days += [
        {"day": date(2026, 1, n), "predictions": 9, "labelled": 8, "loss": 1.0, "champion": 1} for n in (1, 2, 3)
    ]
    found = ask("GET", "/api/v1/performance", days="2")[1]
    assert ([day["day"] for day in found["days"]], found["earlier"]) == (["2026-01-02", "2026-01-03"], True)
    found = ask("GET", "/api/v1/performance", until="2026-01-02")[1]
    assert ([day["labelled"] for day in found["days"]], found["earlier"]) == ([8, 8], False)
    for wrong in ({"days": "0"}, {"days": "1101"}, {"until": "soon"}):
        assert ask("GET", "/api/v1/performance", **wrong)[0] == 400


def test_a_release_under_way_says_what_it_needs(ask, services):
    ask("POST", "/api/v1/runs", {})
    services.work_until_idle()
    assert ask("GET", "/api/v1/releases/release-1")[1]["needs"] == "watched for 7 days more"


@pytest.mark.parametrize(("told", "follow"), [(None, 4), ("", 4), ("7", 7)])
def test_a_stream_goes_on_where_its_reader_says(told, follow, services):
    request = ApiRequest(
        "GET", "/api/v1/events/stream", {"after": "4"}, authorization=f"Bearer {TOKEN}", last_event_id=told
    )
    answer = dispatch(request, services, tokens.guard(TOKEN))
    assert (answer.content_type, answer.follow) == ("text/event-stream", Following(follow, None))


@pytest.mark.parametrize("told", ["x", "-1", "1.5", "²", "9" * 5000], ids=lambda told: told[:5])
def test_a_stream_refuses_an_id_that_is_none(told, services):
    request = ApiRequest("GET", "/api/v1/events/stream", authorization=f"Bearer {TOKEN}", last_event_id=told)
    assert dispatch(request, services, tokens.guard(TOKEN)).status == 400


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
    assert ask("GET", "/api/v1/incidents/incident-1")[1]["reason"] == "worse than promised"
    assert ask("GET", "/api/v1/incidents/incident-2")[0] == 404
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


def test_only_those_who_are_named_approve_a_version(ask, services):
    ask("POST", "/api/v1/runs", {})
    services.work_until_idle()
    assert ask("POST", "/api/v1/versions/1/approve", {"reason": "seen"})[0] == 409
    services.approvers = ("ada",)
    assert ask("POST", "/api/v1/versions/1/approve", {"reason": "seen"})[0] == 403
    services.approvers = ("local",)
    assert ask("POST", "/api/v1/versions/1/approve", {"reason": " "})[0] == 400
    assert ask("POST", "/api/v1/versions/1/approve", {"reason": "seen"})[1]["state"] == "approved"
