"""A version in a process of its own: what it does to itself stays there."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from serving_world import Fake, eventually, route, table

from trueline.domain.routes import Arm
from trueline.journal.records import PredictionRecord, ShadowRecord
from trueline.serving import admin, children, life
from trueline.serving.checks import Checks
from trueline.serving.pipe import Inbox, Ready, Refused, Values, frame

BESIDE = (route(1, weight=0.0), route(2, Arm.canary, 1.0))


def row(x):
    return {"x": x, "n": 1}


@pytest.fixture
def beside(serve):
    """Champion 1 in the server, version 2 with all the traffic in a child."""
    return serve({1: Fake(1), 2: "child"}, table(routes=BESIDE), batch_seconds=0.5)


def restarts(server):
    return server.metric('trueline_executor_restarts_total{model="m",version="2"}')


def answered_by_the_child(server):
    return server.post("/predict", row(1)).json["version"] == 2


def test_a_child_answers_batches(serve):
    server = serve({1: "child"}, table())
    rows = [row(x) for x in range(400)]
    assert server.post("/predict", {"instances": rows}).json["predictions"] == [x * 100 for x in range(400)]
    (record,) = server.records(PredictionRecord)
    assert record.outcome == "answered"
    assert record.exec_us >= 0


@pytest.mark.parametrize(
    ("x", "why"),
    [
        (666, "failed: its process died"),
        (777, "timed_out: it gave no answer within 0.5 s and its process was killed"),
        (444, "failed: ValueError: I will not"),
        (555, "invalid_output: the model gave nan at row 0, expected a finite number"),
        (888, "invalid_output: the model gave (2,) for 1 rows, expected (1,)"),
    ],
)
def test_whatever_a_child_does_the_champion_answers_and_the_child_is_blamed(beside, x, why):
    reply = beside.post("/predict", row(x))
    assert (reply.status, reply.json["version"], reply.json["predictions"]) == (200, 1, [x])
    (record,) = beside.records(PredictionRecord)
    assert (record.version, record.outcome, record.answered_by, record.error) == (2, "fell_back", 1, why)
    eventually(lambda: answered_by_the_child(beside))
    assert restarts(beside) == (1 if x in (666, 777) else 0)


def test_a_hung_version_does_not_delay_the_others(serve):
    routes = (route(1), route(2, Arm.shadow, 0))
    server = serve({1: Fake(1), 2: "child"}, table(routes=routes), batch_seconds=120)
    with server.connect() as connection:
        tensors = [
            {"name": "x", "shape": [1], "datatype": "FP64", "data": [777]},
            {"name": "n", "shape": [1], "datatype": "INT64", "data": [1]},
        ]
        body = json.dumps({"inputs": tensors}).encode()
        head = b"POST /v2/models/m/versions/2/infer HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body)
        eventually(lambda: server.metric("trueline_inference_in_progress") == 1)
        assert all(server.post("/predict", row(1)).json["version"] == 1 for _ in range(20))
        assert server.metric("trueline_inference_in_progress") == 1, "the hung batch is still out"
        os.kill(server.call(lambda: server.server.plane.versions.pinned(2).runner.pid), signal.SIGKILL)
        assert b"503 Service Unavailable" in connection.recv(65536), "pinned: nobody else may answer"


def test_a_child_killed_from_outside_comes_back(beside):
    assert answered_by_the_child(beside)
    for _ in range(3):
        os.kill(eventually(lambda: beside.call(lambda: beside.server.plane.versions.pinned(2).runner.pid)), 9)
        assert beside.post("/predict", row(1)).status == 200
        eventually(lambda: answered_by_the_child(beside))
    assert restarts(beside) == 3


def test_one_poisonous_request_in_a_batch_does_not_poison_its_neighbours_answers(beside):
    with beside.connect() as connection:
        bodies = [b'{"x":%d,"n":1}' % x for x in (1, 444, 2, 555, 3)]
        head = b"POST /predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(b"".join(head % len(body) + body for body in bodies))
        received = b""
        while received.count(b'"version"') < 5:
            received += connection.recv(65536)
    assert received.count(b"HTTP/1.1 200") == 5
    outcomes = {one.features["x"][0]: one.outcome for one in beside.records(PredictionRecord)}
    assert outcomes == {1: "answered", 444: "fell_back", 2: "answered", 555: "fell_back", 3: "answered"}


def test_shadow_scores_of_a_child_that_dies_are_recorded_as_its_failures(serve):
    routes = (route(1), route(2, Arm.shadow, 0))
    server = serve({1: Fake(1), 2: "child"}, table(routes=routes))
    assert server.post("/predict", row(666)).json["version"] == 1
    (shadow,) = server.records(ShadowRecord)
    assert (shadow.version, shadow.outcome, shadow.error) == (2, "failed", "its process died")


def test_a_version_that_does_not_come_to_its_shadow_scores_keeps_nobody_waiting_for_a_status_or_a_seal(
    serve, monkeypatch
):
    monkeypatch.setattr(admin, "STATUS_SECONDS", 120.0)
    monkeypatch.setattr(admin, "SEAL_SECONDS", 0.05)
    routes = (route(1), route(2, Arm.shadow, 0))
    server = serve({1: Fake(1), 2: "child"}, table(routes=routes), batch_seconds=120)
    assert server.post("/predict", row(777)).json["version"] == 1
    assert server.admin("status", at_once=True)["shadows"] == 0
    assert server.admin("seal")["segment"] == 1
    monkeypatch.setattr(admin, "STATUS_SECONDS", 0.05)
    assert server.admin("status")["shadows"] == 0
    os.kill(server.call(lambda: server.server.plane.versions.pinned(2).runner.pid), signal.SIGKILL)
    eventually(lambda: server.admin("status")["shadows"] == 1)
    (shadow,) = server.records(ShadowRecord)
    assert (shadow.version, shadow.error) == (2, "its process died"), "what was owed follows"


def test_a_child_is_started_again_whatever_keeps_it_from_starting_at_first(beside, monkeypatch):
    assert answered_by_the_child(beside)
    begin, problems = life.Life.begin, [RuntimeError("can't start new thread"), ValueError("a defect")]

    async def begins(*given):
        if problems:
            raise problems.pop()
        return await begin(*given)

    monkeypatch.setattr(life.Life, "begin", begins)
    os.kill(beside.call(lambda: beside.server.plane.versions.pinned(2).runner.pid), signal.SIGKILL)
    eventually(lambda: not problems and answered_by_the_child(beside))


def test_a_signal_without_a_name_has_a_number():
    assert [life.how_it_ended(code) for code in (-9, -40, 3)] == ["signal SIGKILL", "signal 40", "exit code 3"]


def test_a_child_that_cannot_load_is_refused_with_its_sentence_and_the_table_stands(serve, monkeypatch, tmp_path):
    script = tmp_path / "broken.py"
    server = serve({1: Fake(1), 2: "child"}, table())
    server._script.write_text("raise SystemExit(3)")
    answer = server.put(table(epoch=2, routes=BESIDE))
    assert (answer["ok"], answer["error"]) == (False, "its process ended before the model was loaded")
    assert server.admin("status")["epoch"] == 1
    del script, monkeypatch


def test_a_child_that_does_not_come_back_is_tried_again_with_pauses(beside, monkeypatch):
    monkeypatch.setattr(children, "FIRST_PAUSE", 0.01)
    good = beside._script.read_text()
    beside._script.write_text("raise SystemExit(3)")
    assert beside.post("/predict", row(666)).json["version"] == 1
    eventually(lambda: restarts(beside) >= 3)
    assert beside.post("/predict", row(1)).json["version"] == 1
    beside._script.write_text(good)
    eventually(lambda: answered_by_the_child(beside))


def test_children_end_with_their_server(beside):
    pid = beside.call(lambda: beside.server.plane.versions.pinned(2).runner.pid)
    beside.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_messages_are_taken_apart_however_the_pipe_cuts_them():
    messages = [Ready(), Values(1, 5, b"12345678"), Refused(2, 6, "failed", "no")]
    stream = b"".join(frame(message) for message in messages)
    for step in (1, 3, 7, len(stream)):
        inbox = Inbox()
        found = [one for at in range(0, len(stream), step) for one in inbox.feed(stream[at : at + step])]
        assert found == messages


def test_the_command_of_a_child_names_model_and_digest(tmp_path):
    command = children.command(tmp_path, "sha256:1")(7)
    assert command == (sys.executable, "-m", "trueline.serving.child", "7", str(tmp_path), "sha256:1")


def test_what_cannot_be_sent_to_a_child_fails_alone_and_the_lane_goes_on(serve, monkeypatch):
    server = serve({1: "child"}, table())
    monkeypatch.setattr(Checks, "check", lambda *_: [])
    reply = server.post("/predict", {"x": 2**70, "n": 1, "more": 1})
    assert reply.status == 500
    assert "it cannot be sent this" in reply.error
    assert server.post("/predict", row(1)).status == 200
    assert server.metric("trueline_inference_in_progress") == 0


def test_a_child_that_the_machine_cannot_start_is_tried_again_too(beside, monkeypatch):
    monkeypatch.setattr(children, "FIRST_PAUSE", 0.01)
    start, refused = subprocess.Popen, []

    def full(*arguments, **options):
        if len(refused) < 3:
            refused.append(1)
            raise OSError(errno.EMFILE, "Too many open files")
        return start(*arguments, **options)

    monkeypatch.setattr(life.subprocess, "Popen", full)
    assert beside.post("/predict", row(666)).json["version"] == 1
    eventually(lambda: answered_by_the_child(beside))
    assert len(refused) == 3


def test_a_child_whose_interpreter_is_gone_is_refused_with_a_sentence(serve, monkeypatch):
    server = serve({1: Fake(1), 2: "child"}, table())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    answer = server.put(table(epoch=2, routes=BESIDE))
    assert answer["error"] == "its process could not be started: No such file or directory"
