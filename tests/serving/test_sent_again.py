"""A request that is sent again with its key: one id and one prediction, whichever process answers, whoever died meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import secrets
import shutil
import signal
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_world import Fake, Running, eventually, route, table
from test_process import Process, of

from trueline.data.labels import Labels, resolve
from trueline.data.predictions import Predictions
from trueline.domain import routes
from trueline.domain.routes import Arm
from trueline.journal.records import PredictionRecord
from trueline.journal.segments import Writer
from trueline.monitoring import summaries
from trueline.serving import idempotency, ports
from trueline.serving.limits import Limits
from trueline.serving.server import Config
from trueline.settings import StateFolder
from trueline.shipping.ship import Shipper

ROW = {"x": 2.0, "n": 1}
SPLIT = table(routes=(route(1, weight=0.5), route(2, Arm.canary, 0.5)))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two processes of one machine, each on a port of its own, so that a test can choose."""
    state = StateFolder(tmp_path_factory.mktemp("both") / "state").create()
    limits = Limits(sweep_seconds=0.02, linger_seconds=0.2)
    running = [Running(Config(state, name, port=0, limits=limits), {1: Fake(1), 2: Fake(2)}) for name in ("r0", "r1")]
    for one in running:
        one.start()
        assert one.put(SPLIT)["ok"]
    yield running
    for one in running:
        one.stop()
    shutil.rmtree(state.sockets, ignore_errors=True)


def ask(server, key, row=ROW):
    reply = server.post("/predict", row, {"Idempotency-Key": key, "X-Request-Id": secrets.token_hex(4)})
    assert reply.status == 200
    return reply.json


def read(state):
    """What readers of the tables have, after everything was shipped."""
    for journal in state.journals.iterdir():
        Shipper(state, journal.name).ship_sealed()
    return Predictions(state.tables / "predictions")


def everything(table_):
    days = table_.days()
    return table_.read_days(days[0], days[-1])


def seal(running):
    for one in running:
        one.admin("seal")


def test_two_processes_give_one_request_the_same_answer_and_the_same_ids(both):
    first, second = both
    said = ask(first, "k-1")
    assert ask(second, "k-1") == said
    other = ask(second, "k-1", ROW | {"x": 3.0})
    assert other["prediction_ids"] != said["prediction_ids"]
    assert ask(second, "k-2")["prediction_ids"] != said["prediction_ids"]


def test_a_label_finds_one_prediction_of_a_request_that_was_answered_twice(both):
    first, second = both
    said = [ask(one, "labelled") for one in both]
    (wanted,) = said[0]["prediction_ids"]
    assert second.post("/labels", {"prediction_id": wanted, "value": 9}).status == 200
    request = wanted.removesuffix("-0")
    assert [sum(one.request_id == request for one in server.records(PredictionRecord)) for server in both] == [1, 1]
    seal(both)
    state = first.config.state
    found = everything(read(state))
    assert found.filter(prediction_id=wanted, arm="shadow").height + 1 == found.filter(prediction_id=wanted).height == 2
    truth = resolve(Labels(state.tables / "labels").read("2020-01-01")).labels
    joined = summaries.joined(found, truth, "regression").filter(prediction_id=wanted, served=True)
    assert joined["loss"].to_list() == [9 - said[0]["predictions"][0]]


RUNS = itertools.count()
sends = st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 1), st.booleans())


@settings(max_examples=12, deadline=None)
@given(st.lists(sends, min_size=1, max_size=12))
def test_however_often_and_wherever_requests_come_again_each_is_there_once(both, asked):
    run, known = next(RUNS), {}
    for number, x, place, forgetful in asked:
        server = both[place]
        if forgetful:  # as after a restart, or 20,000 other answers
            server.call(lambda server=server: vars(server.server._endpoints).update(_answered=idempotency.Answered()))
        said = ask(server, f"run {run}, {number}", ROW | {"x": float(x)})
        assert known.setdefault((number, x), said) == said
    ids = {said["prediction_ids"][0] for said in known.values()}
    assert len(ids) == len(known)
    seal(both)
    found = everything(read(both[0].config.state))
    answered = found.filter(found["arm"] != "shadow")
    assert answered["prediction_id"].is_unique().all()
    assert ids <= set(answered["prediction_id"].to_list())


class Pair:
    """Two processes on one port, started again when they are killed."""

    def __init__(self, state):
        self.state = state
        self.kept = ports.reserve("127.0.0.1", 0)
        self.port = self.kept.getsockname()[1]
        self.group = secrets.token_hex(4)
        self.processes = {}

    def start(self, name):
        given_ = ("--port", str(self.port), "--replica", name, "--group", self.group)
        self.processes[name] = Process(self.state, *given_)
        return self.processes[name]

    def close(self):
        for one in self.processes.values():
            if one.popen.poll() is None:
                one.popen.kill()
            one.popen.communicate()
        self.kept.close()
        shutil.rmtree(self.state.sockets, ignore_errors=True)


@pytest.fixture
def pair(tmp_path):
    made = Pair(StateFolder(tmp_path / "state").create())
    yield made
    made.close()


def insist(port, key, row):
    """Ask until there is an answer, each time over another connection."""

    def answer():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            headers = {"Content-Type": "application/json", "Idempotency-Key": key}
            connection.request("POST", "/predict", json.dumps(row), headers)
            response = connection.getresponse()
            body = response.read()
            return json.loads(body) if response.status == 200 else None
        return None

    return eventually(answer, 60)


def keep_asking(port, worker, known, over):
    """Requests without end, each twice: the second time as one whose answer was lost would."""
    for number in itertools.count():
        if over.is_set():
            return
        key, row = f"{worker}-{number}", {"a": float(worker), "b": float(number % 7)}
        known[key] = [insist(port, key, row) for _ in range(2)]


@pytest.mark.real
def test_killed_while_requests_are_under_way_each_is_answered_alike_and_there_once(pair, packaged):
    split = (of(packaged, 1, weight=0.5), of(packaged, 2, Arm.canary, 0.5))
    assert pair.start("r0").admin("route", table=routes.encode(table(routes=split)))["ok"]
    pair.start("r1")  # with the table that the other one keeps
    known, over = {}, threading.Event()
    workers = [threading.Thread(target=keep_asking, args=(pair.port, number, known, over)) for number in range(3)]
    for one in workers:
        one.start()
    for turn, name in enumerate(("r0", "r1", "r1", "r0"), 1):
        eventually(lambda turn=turn: len(known) > 40 * turn, 60)
        pair.processes[name].end(signal.SIGKILL)
        pair.start(name)
    over.set()
    for one in workers:
        one.join()
    assert all(first == again for first, again in known.values())
    for name in ("r0", "r1"):
        assert pair.processes[name].end()[0] == 0
        with Writer(pair.state.journal(name)) as writer:
            writer.seal()
    found = everything(read(pair.state))
    answered = found.filter(found["arm"] != "shadow")
    assert answered["prediction_id"].is_unique().all()
    assert {first["prediction_ids"][0] for first, _ in known.values()} <= set(answered["prediction_id"].to_list())
