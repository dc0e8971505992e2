"""More arrives than can be answered: the rest hears so at once, those let in are answered soon, and it is over soon.

The rules are proved in simulated time (test_admission.py); here is that the server keeps them. Models sleep, so that what
is asserted holds on a busy machine too: without a door the last of these requests would wait for ten seconds and more.
`bench/overload.py` prints the figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from serving_world import Fake, eventually, route, table

from trueline.domain.routes import Arm
from trueline.journal.records import PredictionRecord

OPEN_LOOP = Path(__file__).parents[2] / "bench" / "openloop.py"


def row(x):
    return {"x": x, "n": 1}


class Gate:
    """A model that answers when it is let: `open` is what a test sets."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()

    def __call__(self, columns):
        self.entered.set()
        assert self.open.wait(30)
        return np.array(columns["x"], dtype=float)


def pipelined(count: int) -> bytes:
    body = b'{"x":1,"n":1}'
    return (b"POST /predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body) * count


def statuses(connection, count: int) -> Counter[bytes]:
    received = b""
    while received.count(b"\r\n\r\n") < count:
        data = connection.recv(1 << 20)
        assert data, received[-200:]
        received += data
    return Counter(part[:3] for part in received.split(b"HTTP/1.1 ")[1:])


@pytest.mark.real
@pytest.mark.parametrize("where", ["in the server", "in a child"])
def test_five_times_the_load_is_refused_at_once_or_answered_soon_and_then_all_is_well(serve, where):
    """Ten milliseconds a row: forty requests a second, then five hundred, then forty."""

    def slow(columns):
        time.sleep(0.010 * len(columns["x"]))
        return np.array(columns["x"], dtype=float)

    server = serve({1: Fake(1, slow) if where == "in the server" else "child"})
    if where == "in a child":
        script = server._script.read_text()
        server._script.write_text(script.replace('x = columns["x"]', 'x = columns["x"]; time.sleep(0.010 * len(x))'))
    assert server.put(table())["ok"]
    plan = [[40, 2], [500, 4], [40, 3]]
    command = [sys.executable, str(OPEN_LOOP), str(server.port), "/predict", json.dumps(plan), '{"x":1,"n":1}']
    replies = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert {status for _, _, status, _ in replies} == {200, 429}
    assert all(retry == 1 for _, _, status, retry in replies if status == 429)
    assert all(status == 200 for due, _, status, _ in replies if due < 2 or due > 8)
    during = [(latency, status) for due, latency, status, _ in replies if 2 <= due < 6]
    taken = sorted(latency for latency, status in during if status == 200)
    assert len(taken) >= 100, "the model went on answering"
    assert len(taken) <= 0.6 * len(during)
    assert taken[int(0.9 * len(taken))] < 1.0
    assert sum(one.rows for one in server.records(PredictionRecord)) == sum(reply[2] == 200 for reply in replies)


@pytest.mark.parametrize("size", [32, 256])
def test_a_burst_in_one_turn_is_answered_whole(serve, size):
    server = serve(wanted=table(), pipelined=1000)
    with server.connect() as connection:
        for _ in range(3):
            connection.sendall(pipelined(size))
            assert statuses(connection, size) == {b"200": size}


def test_what_has_no_room_is_refused_before_its_body_is_looked_at(serve):
    server = serve(wanted=table(), pipelined=10_000)
    door = server.call(lambda: server.server.plane.versions.standing.door)
    assert server.post("/predict", row(1)).status == 200

    def shut() -> None:
        door.room = 0

    for path, body in (("/predict", b"no JSON"), ("/v2/models/m/infer", b"{}"), ("/invocations", b"{}")):
        server.call(shut)
        reply = server.post(path, body)
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        assert b"more requests wait for 'm' than can be answered in time; try again in a second" in reply.body
    assert server.records(PredictionRecord)[1:] == [], "what was never let in is nobody's evidence"
    assert server.metric('trueline_inference_requests_total{model="m",version="",role="",code="429"}') == 3


def test_a_version_without_room_is_blamed_when_the_champion_has_some(serve):
    server = serve({1: Fake(1), 2: Fake(2)}, table(routes=(route(1, weight=0.6), route(2, Arm.canary, 0.4))))
    plane = server.server.plane

    def shut(*versions: int) -> None:
        for version in versions:
            plane.versions.pinned(version).lane.door.room = 0

    def ask():
        return server.post("/predict", row(3), {"X-Request-Id": canaries})

    canaries = next(name for name in map(str, range(1000)) if plane.versions.standing.split.choose(name).version == 2)
    assert ask().json["version"] == 2
    server.call(lambda: shut(2))
    assert ask().json["version"] == 1
    server.call(lambda: shut(1, 2))
    assert ask().status == 429
    first, second = server.records(PredictionRecord)
    assert (first.version, first.outcome) == (2, "answered")
    assert (second.version, second.outcome, second.answered_by) == (2, "fell_back", 1)
    assert second.error == "timed_out: more requests wait for it than it can answer in time"


def test_who_waited_longer_than_the_deadline_is_refused_and_not_scored(serve):
    """One batch holds the server for longer than the deadline; what came meanwhile is not asked of the model any more."""
    gate = Gate()
    server = serve({1: Fake(1, gate)}, batch_seconds=0.05)
    gate.open.set()
    assert server.put(table())["ok"]
    gate.open.clear()
    gate.entered.clear()
    with server.connect() as first, server.connect() as second:
        first.sendall(pipelined(1))
        assert gate.entered.wait(20)
        second.sendall(pipelined(3))
        gate.open.set()
        assert statuses(first, 1) == {b"200": 1}
        assert set(statuses(second, 3)) <= {b"200", b"429"}, "it was not even read while the model ran"
    door = server.call(lambda: server.server.plane.versions.standing.door)
    assert server.call(lambda: door.patience_ns) <= 50_000_000


def test_a_request_behind_a_hung_batch_is_answered_by_the_champion_within_the_deadline(serve):
    """The batch hangs; what waits behind it does not wait for a deadline of its own."""
    server = serve({1: Fake(1), 2: "child"}, table(routes=(route(1, weight=0.0), route(2, Arm.canary, 1.0))))
    with server.connect() as hung, server.connect() as behind:
        hung.sendall(pipelined(1).replace(b'{"x":1,', b'{"x":777,').replace(b"Length: 13", b"Length: 15"))
        eventually(lambda: server.metric("trueline_inference_in_progress") == 1)
        behind.sendall(pipelined(20))
        assert statuses(hung, 1) == {b"200": 1}
        assert statuses(behind, 20) == {b"200": 20}
    records = server.records(PredictionRecord)
    assert [one.outcome for one in records] == ["fell_back"] * 21
    first, *others = records
    assert first.error == "timed_out: it gave no answer within 0.9 s and its process was killed"
    restarting = "failed: its process is being started again"
    assert all(one.error == restarting or one.error.startswith("timed_out: its turn") for one in others)


def test_no_more_than_the_declared_number_are_ever_worked_on(serve):
    server = serve({1: "child"}, table(), waiting=10, pipelined=1000)
    with server.connect() as connection:
        connection.sendall(pipelined(40))
        found = statuses(connection, 40)
    assert set(found) == {b"200", b"429"}
    assert found[b"200"] >= 10
