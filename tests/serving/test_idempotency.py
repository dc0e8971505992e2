"""Idempotency-Key: asked twice, answered twice, recorded once."""

from __future__ import annotations

import json

import numpy as np
from serving_world import Fake, eventually, read_all, route, table

from trueline.domain.routes import Arm
from trueline.journal.records import PredictionRecord
from trueline.serving.dataplane import Answer
from trueline.serving.idempotency import Answered

ROW = {"x": 2.0, "n": 1}
KEY = {"Idempotency-Key": "in-0-7", "X-Request-Id": "in-0-7"}


def test_the_same_request_again_has_the_same_answer_and_one_record(serve):
    server = serve(wanted=table())
    first, again = server.post("/predict", ROW, KEY), server.post("/predict", ROW, KEY)
    assert again.status == 200
    assert again.body == first.body
    assert again.headers["trueline-request-id"] == first.headers["trueline-request-id"]
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert len(server.records(PredictionRecord)) == 1


def test_another_body_under_the_key_is_another_request(serve):
    server = serve(wanted=table())
    assert server.post("/predict", ROW, KEY).json["predictions"] == [2.0]
    assert server.post("/predict", ROW | {"x": 3.0}, KEY).json["predictions"] == [3.0]
    assert len(server.records(PredictionRecord)) == 2


def test_what_was_refused_is_asked_anew(serve):
    calls = []

    def model(columns):
        calls.append(1)
        if len(calls) == 2:  # the first is the warm-up
            raise ValueError("I will not")
        return np.array(columns["x"], dtype=float)

    server = serve({1: Fake(1, model)}, table())
    assert server.post("/predict", ROW, KEY).status == 500
    assert server.post("/predict", ROW, KEY).status == 200


def test_it_remembers_no_more_than_it_may():
    memory = Answered(most=3, most_bytes=2000)
    answer = Answer("r", "m", 1, [1.0], None)
    for number in range(5):
        memory.keeping(b"%d" % number, b"x", lambda _: b"small")(answer)
    assert [memory.find(b"%d" % number, b"x") is not None for number in range(5)] == [False, False, True, True, True]
    memory.keeping(b"large", b"x", lambda _: bytes(1500))(answer)
    assert memory.find(b"large", b"x") is not None
    assert memory.find(b"4", b"x") is None
    memory.keeping(b"unrecorded", b"x", lambda _: b"small")(Answer("r", "m", 1, [1.0], None, recorded=False))
    assert memory.find(b"unrecorded", b"x") is None


def test_long_keys_count_for_what_it_may_remember():
    memory = Answered(most=1000, most_bytes=2000)
    keys = [b"%d" % number * 1000 for number in range(5)]
    for key in keys:
        memory.keeping(key, b"x", lambda _: b"small")(Answer("r", "m", 1, [1.0], None))
    assert [memory.find(key, b"x") is not None for key in keys] == [False, False, False, False, True]


def twice(server, row):
    """The same request on two connections, the second before the first is answered."""
    body = json.dumps(row).encode()
    asked = b"POST /predict HTTP/1.1\r\nConnection: close\r\nIdempotency-Key: k\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    with server.connect() as first, server.connect() as second:
        first.sendall(asked + body)
        eventually(lambda: server.server.plane.metrics.in_progress)
        second.sendall(asked + body)
        return read_all(first), read_all(second)


def test_the_same_request_before_it_was_answered_has_the_same_answer_and_one_record(serve):
    server = serve(
        {1: Fake(1), 2: "child"}, table(routes=(route(1, weight=0.0), route(2, Arm.canary, 1.0))), batch_seconds=0.5
    )
    first, again = twice(server, {"x": 777, "n": 1})  # it hangs: the champion answers when the time is over
    assert first.partition(b"\r\n\r\n")[2] == again.partition(b"\r\n\r\n")[2] != b""
    assert (b"idempotency-replayed" in first, b"idempotency-replayed" in again) == (False, True)
    assert len(server.records(PredictionRecord)) == 1


def test_the_same_request_before_it_was_refused_is_refused_too(serve):
    server = serve({1: "child"}, table(), batch_seconds=0.5)
    first, again = twice(server, {"x": 777, "n": 1})
    assert [one.startswith(b"HTTP/1.1 503") for one in (first, again)] == [True, True]
    eventually(lambda: server.post("/predict", ROW, KEY).status == 200)
