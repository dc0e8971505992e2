"""Requests that are under way while versions come and go."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import Future

import pytest
from serving_world import Fake, eventually, route, table

from trueline.domain.routes import Arm
from trueline.journal.records import PredictionRecord, ShadowRecord

HANGS = {"x": 777, "n": 1}
CANARY = (route(1, weight=0.0), route(2, Arm.canary, 1.0))


def beside(work):
    """What the work gives, done in a thread of its own."""
    done = Future()
    threading.Thread(target=lambda: done.set_result(work()), daemon=True).start()
    return done


def loaded(server):
    return {one["version"] for one in server.admin("status")["loaded"]}


def kill(server, version):
    os.kill(server.call(lambda: server.server.plane.versions.pinned(version).runner.pid), signal.SIGKILL)


@pytest.fixture
def under_way(serve):
    """A server whose canary, in a child, has a request that does not come to an end; nothing stays warm."""

    def start(routes=CANARY, champion="child"):
        models = {1: champion, 2: "child", 3: Fake(3)}
        server = serve(models, table(routes=routes), warm_versions=0, batch_seconds=20.0)
        answer = beside(lambda: server.post("/predict", HANGS))
        eventually(lambda: server.call(lambda: server.server.plane.versions.pinned(2).lane._out))
        return server, answer

    return start


def test_a_canarys_request_gets_the_new_champions_answer_when_its_own_champion_was_let_go(under_way):
    server, answer = under_way()
    assert server.put(table(2, routes=(route(3, weight=0.0), route(2, Arm.canary, 1.0))))["ok"]
    assert loaded(server) == {2, 3}
    kill(server, 2)
    reply = answer.result(20)
    assert (reply.status, reply.json["version"], reply.json["predictions"]) == (200, 3, [777 * 3])
    (record,) = server.records(PredictionRecord)
    assert (record.version, record.epoch, record.outcome, record.answered_by) == (2, 1, "fell_back", 3)


def test_a_canary_that_was_promoted_meanwhile_is_still_answered_for_by_the_champion_before(under_way):
    server, answer = under_way(champion=Fake(1))
    assert server.put(table(2, routes=(route(2), route(1, Arm.shadow, 0.0))))["ok"]
    kill(server, 2)
    reply = answer.result(20)
    assert (reply.status, reply.json["version"], reply.json["predictions"]) == (200, 1, [777])


def test_a_version_that_was_named_is_answered_for_by_nobody_else(under_way):
    server, answer = under_way()
    named = beside(lambda: server.post("/v2/models/m/versions/2/infer", INFER))
    eventually(lambda: server.call(lambda: server.server.plane.versions.pinned(2).lane._waiting))
    assert server.put(table(2, routes=(route(3, weight=0.0), route(2, Arm.canary, 1.0))))["ok"]
    kill(server, 2)
    assert answer.result(20).json["version"] == 3
    assert named.result(20).status == 503


def test_a_shadow_that_was_let_go_owes_nothing_for_a_request_of_before(under_way):
    server, answer = under_way()
    assert server.put(table(2, routes=(route(3),)))["ok"] is True
    kill(server, 2)
    assert answer.result(20).json["version"] == 3
    assert server.records(ShadowRecord) == []


class Slow:
    """Loading that takes until it is let go on."""

    def __init__(self, server):
        self.load, server.server.plane.versions._load = server.server.plane.versions._load, self
        self.started, self.may_go_on = threading.Event(), threading.Event()
        self.runners = []

    async def __call__(self, wanted):
        self.started.set()
        await asyncio.to_thread(self.may_go_on.wait, 20)
        self.runners.append(await self.load(wanted))
        return self.runners[-1]


def ask_for(server, version):
    return server.admin("load", version=version, path=f"/models/{version}", digest="")


def test_versions_that_are_being_loaded_by_request_count_for_the_limit(serve):
    server = serve({number: Fake(number) for number in (1, 2, 3)}, table(), asked_versions=1)
    slow = Slow(server)
    first = beside(lambda: ask_for(server, 2))
    assert slow.started.wait(20)
    refused = ask_for(server, 3)
    assert (refused["status"], refused["error"]) == (409, "1 versions are loaded by request already (2); unload one")
    slow.may_go_on.set()
    assert first.result(20)["ok"]
    assert loaded(server) == {1, 2}
    assert server.admin("unload", version=2)["ok"]
    assert ask_for(server, 3)["ok"]


def test_a_table_that_is_refused_takes_no_version_from_who_asked_for_it_by_name(serve):
    server = serve({1: Fake(1), 2: "child"}, table())
    slow = Slow(server)
    newer = beside(lambda: server.put(table(2, routes=(route(2),))))
    assert slow.started.wait(20)
    asked = beside(lambda: ask_for(server, 2))
    eventually(lambda: server.call(lambda: server.server.plane.versions._asking == [2]))
    assert server.put(table(3))["ok"]
    slow.may_go_on.set()
    assert not newer.result(20)["ok"]
    assert asked.result(20)["ok"]
    assert server.post("/v2/models/m/versions/2/infer", INFER).json["outputs"][0]["data"] == [100.0]


INFER = {
    "inputs": [
        {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]},
        {"name": "n", "shape": [1], "datatype": "INT64", "data": [1]},
    ]
}
