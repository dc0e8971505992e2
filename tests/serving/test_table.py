"""Route tables: prepared beside the old one, swapped at once, epochs only go up, a person's hold stands."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from concurrent.futures import Future
from dataclasses import replace

import pytest
from serving_world import Fake, eventually, route, table

from trueline.domain import routes
from trueline.domain.contracts import Column, Kind, compile_column
from trueline.domain.routes import Arm
from trueline.errors import PackagingFailed
from trueline.journal.records import PredictionRecord
from trueline.serving.table import example

ROW = {"x": 1, "n": 1}
TWO = {1: Fake(1), 2: Fake(2), 3: Fake(3), 4: Fake(4), 5: Fake(5)}


def only(version, epoch, **changes):
    return table(epoch=epoch, routes=(route(version),), **changes)


def test_a_table_is_acknowledged_and_in_force(serve):
    server = serve(TWO)
    assert server.put(only(1, 1)) == {"ok": True, "epoch": 1}
    assert server.put(only(2, 2)) == {"ok": True, "epoch": 2}
    assert server.post("/predict", ROW).json["version"] == 2
    status = server.admin("status")
    assert (status["epoch"], status["model"], status["hold"]) == (2, "m", False)
    assert routes.decode(status["table"]) == only(2, 2)
    assert [one["version"] for one in status["loaded"]] == [1, 2], "the old version stays warm"


def test_the_same_table_again_is_acknowledged_again_and_an_older_one_is_not(serve):
    server = serve(TWO, only(1, 5))
    assert server.put(only(1, 5)) == {"ok": True, "epoch": 5}
    for stale in (only(2, 5), only(2, 4)):
        answer = server.put(stale)
        assert not answer["ok"]
        assert answer["epoch"] == 5
        assert "is not newer than epoch 5" in answer["error"]
    assert server.post("/predict", ROW).json["version"] == 1


def test_an_epoch_may_come_again_with_more_shadows_and_with_nothing_else(serve):
    server = serve(TWO, only(1, 5))
    more = table(epoch=5, routes=(route(1), route(2, Arm.shadow, 0.0)))
    assert server.put(more) == {"ok": True, "epoch": 5}
    assert routes.decode(server.admin("status")["table"]) == more
    for other in (only(1, 5), table(epoch=5, routes=(route(3), route(2, Arm.shadow, 0.0), route(4, Arm.shadow, 0.0)))):
        assert not server.put(other)["ok"]


@pytest.mark.parametrize("bad", [route(9), route(1, digest="wrong")])
def test_a_version_that_cannot_be_loaded_leaves_the_old_table_in_force(serve, bad):
    server = serve(TWO, only(2, 1))
    answer = server.put(table(epoch=2, routes=(bad,)))
    assert not answer["ok"]
    assert "is not the one that was registered" in answer["error"]
    assert server.post("/predict", ROW).json["version"] == 2


@pytest.mark.parametrize(
    "line",
    [b"", b"nonsense", b"[]", b'{"op":"fly"}', b'{"op":"route"}', b'{"op":["route"]}', b'{"op":"route","table":{}}',
     b'{"op":"route","table":{"epoch":1,"model":"m","routes":[{"version":1}]}}', b'{"op":"route","table":[1]}',
     b"[" * 50_000],
)  # fmt: skip
def test_a_malformed_operation_is_refused_with_a_sentence(serve, line):
    server = serve(TWO, only(1, 1))
    admin = server.server._admin
    answer = asyncio.run_coroutine_threadsafe(admin.answer(line), server._loop).result(10)
    assert not answer["ok"]
    assert answer["status"] == 400
    assert answer["error"]


def test_a_persons_override_takes_the_next_epoch_and_holds_against_control(serve):
    server = serve(TWO, only(1, 3))
    answer = server.admin("override", table=routes.encode(only(2, 3)))
    assert (answer["epoch"], answer["table"]["hold"]) == (4, True)
    assert server.post("/predict", ROW).json["version"] == 2
    for epoch in (4, 5, 9):
        refusal = server.put(only(1, epoch))
        assert not refusal["ok"]
        assert refusal["hold"]
        assert routes.decode(refusal["table"]) == only(2, 4, hold=True)
    assert server.put(only(2, 5, hold=True))["ok"], "control may restate what it has imported"
    assert not server.put(only(1, 6))["ok"]
    assert server.put(only(1, 6), over_hold=5)["ok"], "and lift it knowingly"
    assert server.post("/predict", ROW).json["version"] == 1


def test_a_restart_serves_on_from_the_last_table(serve):
    server = serve(TWO, only(2, 8, release="r", stick_to="x"))
    server.admin("override", table=routes.encode(only(1, 8)))
    server.stop()
    again = serve(TWO)
    assert again.post("/predict", ROW).json["version"] == 1
    assert (again.admin("status")["epoch"], again.admin("status")["hold"]) == (9, True)


def test_a_restart_with_an_unreadable_table_or_a_lost_model_waits_for_control(serve, tmp_path):
    kept = tmp_path / "state" / "routes.json"
    serve(TWO, only(2, 8)).stop()
    server = serve({1: Fake(1)})
    assert server.get("/readyz").status == 503
    server.stop()
    kept.write_text("{")
    server = serve(TWO)
    assert server.get("/readyz").status == 503
    assert server.put(only(1, 9))["ok"]
    assert routes.loads(kept.read_text()) == only(1, 9)


def test_a_restart_with_a_lost_canary_serves_on_with_the_champion_until_control_sends_the_table(serve):
    both = table(epoch=8, routes=(route(1, weight=0.5), route(2, Arm.canary, 0.5)))
    serve(TWO, both).stop()
    server = serve({1: Fake(1)})
    assert {server.post("/predict", ROW).json["version"] for _ in range(8)} == {1}
    assert server.admin("status")["epoch"] == 7
    server.models[2] = Fake(2)
    assert server.put(both) == {"ok": True, "epoch": 8}


def test_versions_that_left_long_ago_are_unloaded(serve):
    server = serve(TWO, only(1, 1), warm_versions=2)
    for version in (2, 3, 4, 5):
        server.put(only(version, version))
    assert [one["version"] for one in server.admin("status")["loaded"]] == [3, 4, 5]
    assert server.put(only(3, 9))["ok"]
    assert [one["version"] for one in server.admin("status")["loaded"]] == [4, 5, 3]


def test_swapping_tables_under_load_fails_no_request(serve, record_property):
    server = serve({1: Fake(1), 2: Fake(2), 3: "child"}, only(1, 1))
    stop = threading.Event()
    failures: list[object] = []
    counts: list[int] = []

    def load() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        count = 0
        while not stop.is_set():
            connection.request("POST", "/predict", json.dumps(ROW), {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                failures.append((response.status, body))
            count += 1
        connection.close()
        counts.append(count)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    shapes = [
        (route(2),),
        (route(1, weight=0.5), route(2, Arm.canary, 0.5)),
        (route(1), route(3, Arm.shadow, 0)),
        (route(1, weight=0.2), route(3, Arm.canary, 0.8)),
    ]
    took = []
    for epoch in range(2, 42):
        started = time.perf_counter()
        assert server.put(table(epoch=epoch, routes=shapes[epoch % 4]))["ok"]
        took.append(time.perf_counter() - started)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    predictions = server.records(PredictionRecord)
    assert len(predictions) == sum(counts)
    assert {one.outcome for one in predictions} == {"answered"}
    warm = sorted(took[4:])  # the first four loaded the versions
    record_property("median_acknowledgement_ms", round(warm[len(warm) // 2] * 1000, 2))
    record_property("slowest_acknowledgement_ms", round(warm[-1] * 1000, 2))


def put_beside(server, wanted):
    """Send a table and go on: its answer comes when its versions are loaded."""
    answer = Future()
    threading.Thread(target=lambda: answer.set_result(server.put(wanted)), daemon=True).start()
    return answer


class Slow:
    """Loading that takes until it is let go on."""

    def __init__(self, server):
        self.server, self.load = server, server.server.plane.versions._load
        server.server.plane.versions._load = self
        self.started, self.may_go_on = threading.Event(), threading.Event()
        self.loads = []

    async def __call__(self, wanted):
        self.loads.append(wanted.version)
        self.started.set()
        await asyncio.to_thread(self.may_go_on.wait, 20)
        return await self.load(wanted)


def test_a_rollback_does_not_wait_for_a_version_that_is_being_loaded(serve):
    server = serve({1: Fake(1), 2: Fake(2), 3: Fake(3)}, only(1, 1))
    server.put(only(2, 2))
    slow = Slow(server)
    late = put_beside(server, only(3, 3))
    assert slow.started.wait(20)
    assert server.put(only(1, 4)) == {"ok": True, "epoch": 4}  # version 1 is warm
    assert server.post("/predict", ROW).json["version"] == 1
    slow.may_go_on.set()
    refused = late.result(20)
    assert (refused["ok"], refused["epoch"]) == (False, 4)
    assert "epoch 3 is not newer than epoch 4" in refused["error"]
    assert {one["version"] for one in server.admin("status")["loaded"]} == {1, 2}  # what nobody needs is let go of


def test_a_version_that_two_tables_wait_for_is_loaded_once(serve):
    server = serve({1: Fake(1), 2: Fake(2)}, only(1, 1))
    slow = Slow(server)
    first = put_beside(server, only(2, 2))
    assert slow.started.wait(20)
    second = put_beside(server, only(2, 3))
    eventually(lambda: len(server.server.plane.versions._pending) == 2)
    slow.may_go_on.set()
    assert second.result(20)["epoch"] == 3
    first.result(20)  # in force before, or refused: by the order in which the two go on
    assert slow.loads == [2]
    assert server.post("/predict", ROW).json["version"] == 2


def test_a_version_that_a_table_waits_with_is_not_let_go_of_meanwhile(serve):
    server = serve(TWO, table(routes=(route(3), route(4, Arm.shadow, 0))), warm_versions=0)
    slow = Slow(server)
    late = put_beside(server, replace(table(9), routes=(route(4), route(2, Arm.shadow, 0))))
    assert slow.started.wait(20)
    assert server.put(only(3, 5))["ok"]
    assert [one["version"] for one in server.admin("status")["loaded"]] == [4, 3], (
        "nothing is warm here but what is awaited"
    )
    slow.may_go_on.set()
    assert late.result(20)["ok"]
    assert {one["version"] for one in server.admin("status")["loaded"]} == {4, 2}


def test_sealing_waits_for_the_shadow_scores_that_are_owed(serve):
    server = serve({1: Fake(1), 2: "child"}, table(routes=(route(1), route(2, Arm.shadow, 0))), shadow_seconds=30)
    assert server.admin("seal")["segment"] == 0
    for _ in range(5):
        server.post("/predict", ROW)
    assert server.admin("seal") == {"ok": True, "segment": 1}
    status = server.admin("status")
    assert (status["predictions"], status["shadows"], status["segment"]) == (5, 5, 2)


def test_a_ping_waits_for_nothing(serve):
    answer = serve(TWO, only(1, 3)).admin("ping")
    assert (answer["ok"], answer["replica"]) == (True, "r0")


def test_metrics_are_there_for_the_machines_own_operator(serve):
    assert "trueline_route_table_epoch 3" in serve(TWO, only(1, 3)).admin("metrics")["text"]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("low", [None, -3, 2.5])
def test_the_warming_row_is_one_the_contract_accepts(kind, low):
    column = Column("c", kind, minimum=low, categories=("a",))
    assert compile_column(column)(example(column)) is None


def test_a_version_that_is_wanted_again_while_others_are_let_go_of_stays(serve):
    shadows = [route(version, Arm.shadow, 0.0) for version in range(2, 6)]
    server = serve({version: Fake(version) for version in range(1, 7)}, table(routes=(route(1), *shadows)))
    versions = server.server.plane.versions
    closed, answers = [], []

    def hold_up():
        may = asyncio.Event()
        for one in versions.loaded:

            async def close(version=one.version):
                closed.append(version)
                await may.wait()

            one.runner.close = close
        return may

    may = server.call(hold_up)
    leaving = threading.Thread(target=lambda: answers.append(server.put(only(6, 2))))
    leaving.start()
    eventually(lambda: answers)
    assert closed, "the table is acknowledged while what it leaves behind is still being closed"
    back = next(one.version for one in versions.loaded if one.version != 6)
    returning = threading.Thread(target=lambda: answers.append(server.put(only(back, 3))))
    returning.start()
    eventually(lambda: versions.standing.table.epoch == 3)
    server.call(may.set)
    leaving.join(20)
    returning.join(20)
    assert [one["ok"] for one in answers] == [True, True]
    assert back not in closed
    assert back in [one.version for one in versions.loaded]


def test_a_version_that_breaks_the_loading_itself_is_refused_and_keeps_no_other_from_being_served(serve):
    both = table(epoch=2, routes=(route(1), route(2, Arm.shadow, 0.0)))
    server = serve({1: Fake(1), 2: Fake(2, signature=None)}, only(1, 1))
    answer = server.put(both)
    assert (answer["ok"], answer["status"]) == (False, PackagingFailed.status)
    assert answer["error"].startswith("version 2 cannot be loaded: AttributeError: ")
    server.stop()
    server.config.state.routes.write_text(routes.dumps(both))
    again = serve({1: Fake(1), 2: Fake(2, signature=None)})
    assert again.post("/predict", ROW).json["version"] == 1
