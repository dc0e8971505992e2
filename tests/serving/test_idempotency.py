"""Idempotency-Key: asked twice, answered twice, recorded once."""

from __future__ import annotations

import numpy as np
from serving_world import Fake, table

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
