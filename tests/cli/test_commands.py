"""Commands against services in this process, and against a server over HTTP."""

import json
from datetime import UTC, datetime

import pytest

from trueline.domain.incidents import Incident, IncidentState


def test_a_run_without_a_server_trains_here_and_tells_the_verdict(trueline, unserved):
    said = trueline("run", "-p", "depth=3", "-p", "name=tree", "--json")
    assert said.code == 0
    assert (said.json["gate"]["verdict"], said.json["release"]["state"]) == ("pass", "promoted")
    assert said.json["run"]["params"] == {"depth": 3, "name": "tree"}
    assert "gate.decide gate-1" in said.err
    assert unserved.closed


def test_a_run_with_a_server_is_followed_there(trueline, served, state):
    said = trueline("run", "--state", state.root)
    assert said.code == 0
    assert "version 1: gate pass" in said.out
    assert "release-1: promoted" in said.out
    assert "run.succeed run-1" in said.err
    assert served.shelf_runs["run-1"].actor == "local"


@pytest.mark.parametrize(("verdict", "code"), [("fail", 3), ("inconclusive", 4), ("error", 1), ("pass", 0)])
def test_the_verdict_is_the_exit_code(verdict, code, trueline, unserved):
    unserved.verdict = verdict
    said = trueline("run", "--json", "--quiet")
    assert said.code == code
    assert said.json["gate"]["verdict"] == verdict
    assert not code or f"the gate of version 1 says {verdict}" in said.err


def test_a_fit_that_raises_is_a_failed_run_and_one_sentence(trueline, unserved):
    said = trueline("run", "--fit", "model.py:raises")
    assert said.code == 1
    assert said.err.endswith("trueline: run-1 failed: model.py:raises raised ValueError: no luck\n")
    assert unserved.shelf_runs["run-1"].state == "failed"


def test_a_run_may_be_left_alone(trueline, served, state):
    said = trueline("run", "--no-wait", "--no-release", "--state", state.root, "-q")
    assert (said.code, said.out, said.err) == (0, "run-1\n", "")
    assert served.shelf_runs["run-1"].release is False


def test_waiting_may_be_limited(trueline, served, state, monkeypatch):
    monkeypatch.setattr(served, "work_until_idle", lambda: None)
    said = trueline("run", "--timeout", "0", "--state", state.root)
    assert said.code == 6
    assert "run-1 is still queued after 0 s; it goes on without this command" in said.err


@pytest.mark.parametrize("wrong", ["depth", "=3"])
def test_a_parameter_must_have_a_name_and_a_value(wrong, trueline):
    assert trueline("run", "-p", wrong).code == 2


def test_status_is_one_page(trueline, served, state):
    assert trueline("status", "--state", state.root).out.startswith("example: nothing serves yet\n")
    trueline("run", "--state", state.root)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    served.shelf_incidents["incident-1"] = Incident(
        "incident-1", "example", IncidentState.open, 1, "worse than promised", "wait", moment, None, None
    )
    said = trueline("status", "--state", state.root)
    assert "v1 champion 100%" in said.out
    assert "2026-01-01 00:00 (replayed)" in said.out
    assert "incident-1 (open, wait): worse than promised" in said.out
    assert "\x1b" not in said.out
    assert trueline("status", "--state", state.root, "--json").json["champion"] == 1


def test_status_says_why_routes_are_not_on_every_server(trueline, served, state, monkeypatch):
    told, why = served.status, "serve-r0 is still loading version 3; the last attempt failed: it hung"
    assert "delivery" not in trueline("status", "--state", state.root).out
    monkeypatch.setattr(served, "status", lambda: {**told(), "undelivered": why})
    assert f"the routes are not on every server yet: {why}\n" in trueline("status", "--state", state.root).out
    assert trueline("status", "--state", state.root, "--json").json["undelivered"] == why


@pytest.mark.usefixtures("unserved")
def test_lists_say_when_there_is_nothing_and_draw_what_there_is(trueline):
    assert "no runs yet" in trueline("runs").out
    assert "no versions yet" in trueline("versions").out
    trueline("run", "--reason", "to see [bold]markup[/bold] as it is")
    runs, versions = trueline("runs"), trueline("versions")
    assert "run-1" in runs.out
    assert "[bold]markup[/bold]" in runs.out
    assert "mae=1.5" in versions.out
    assert trueline("runs", "--json").json["items"][0]["id"] == "run-1"
    assert trueline("versions", "--json").json["items"][0]["number"] == 1


@pytest.mark.usefixtures("unserved")
def test_why_follows_the_links(trueline):
    trueline("run", "--reason", "to see why")
    said = trueline("why", "run-1")
    assert said.out.splitlines()[:3] == [
        "run-1 is succeeded",
        "└ run run-1 (2026-01-01 00:00): to see why",
        "    entry: model.py:fit",
    ]
    assert trueline("why", "run-1", "--json").json["links"][0]["facts"] == {"entry": "model.py:fit"}
    assert trueline("why", "nothing").code == 1


@pytest.mark.usefixtures("unserved")
def test_a_kind_of_which_nothing_happened_is_said_to_have_none(trueline):
    said = trueline("events", "--kind", "releese")
    assert (said.code, said.out) == (0, "")
    assert "no event of kind 'releese'" in said.err


def test_events_are_lines(trueline, unserved):
    trueline("run")
    said = trueline("events", "--kind", "run")
    assert said.out.splitlines()[0] == "2026-01-01 00:00 run.create run-1  asked for (local)".replace(
        "local", unserved.shelf_runs["run-1"].actor
    )
    lines = trueline("events", "--json", "--after", "1", "--limit", "2").out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [2, 3]


def test_a_release_is_started_promoted_and_taken_back(trueline, unserved):
    trueline("run")
    trueline("run", "--no-release")
    assert trueline("promote", "--reason", "now").code == 1  # release-1 has all the traffic
    said = trueline("release", "v2", "--reason", "agreed", "--json")
    assert (said.code, said.json["id"], said.json["state"]) == (0, "release-2", "pending")
    said = trueline("promote", "--reason", "enough seen")  # not release-1, whose watch goes on meanwhile
    assert said.out == "release-2: version 2 is promoted: enough seen\n"
    said = trueline("rollback", "--reason", "complaints")
    assert said.out == "version 1 serves again after 1 ms, epoch 3: complaints\n"
    assert trueline("rollback", "--version", "2", "--reason", "no", "--json").json["version"] == 2
    assert unserved.champion == 2


def test_a_waiver_is_asked_for_by_name(trueline, unserved):
    unserved.verdict = "fail"
    trueline("run")
    assert trueline("release", "1", "--reason", "r").code == 1
    assert trueline("release", "1", "--waive", "--reason", "known").code == 0
    assert unserved.gate("gate-1").waiver == "known"


def test_promote_needs_something_under_way(trueline, unserved):
    said = trueline("promote", "--reason", "now")
    assert said.code == 1
    assert "nothing is being released;" in said.err
    assert unserved.champion is None
    trueline("run")
    said = trueline("promote", "--reason", "now")
    assert said.code == 1
    assert "nothing is being released: release-1 has given version 1 all traffic already;" in said.err


def test_promote_wants_a_release_not_its_version(trueline, unserved):
    trueline("run")
    said = trueline("promote", "v1", "--reason", "now")
    assert (said.code, unserved.champion) == (2, 1)
    assert "v1 is a version: say with --to which target it goes to, or name its release, as in release-3" in said.err


def test_promote_asks_which_of_two_that_are_undecided(trueline, unserved):
    for _ in range(3):
        trueline("run", "--no-release")
    for version in (2, 3):
        trueline("release", version, "--reason", "agreed")
    said = trueline("promote", "--reason", "now")
    assert said.code == 2
    assert said.err == (
        "trueline: release-2 of version 3 (pending) and release-1 of version 2 (pending) are undecided: say which one, "
        "as in `trueline promote release-2`\n"
    )
    assert trueline("promote", "release-2", "--reason", "now").code == 0
    assert unserved.champion == 3


def test_a_server_that_went_away_is_exit_code_six(trueline, state, served, monkeypatch):
    monkeypatch.setenv("TRUELINE_URL", "http://127.0.0.1:9")
    said = trueline("status", "--state", state.root)
    assert said.code == 6
    assert "cannot be reached" in said.err
    assert served.shelf_runs == {}


def test_the_project_file_is_found_from_below(trueline, unserved, project, monkeypatch):
    below = project.parent / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert trueline("status").code == 0
    assert unserved.closed


def test_no_color_means_none(trueline, unserved, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    trueline("run")
    for command in ("status", "runs", "versions", "events"):
        assert "\x1b" not in trueline(command).out
        assert "\x1b" not in trueline(command, "--no-color").out
    assert unserved.closed
