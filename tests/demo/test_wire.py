from __future__ import annotations

import json
import socket

import pytest

from trueline.errors import Unavailable
from trueline.replaying import wire
from trueline.replaying.wire import Request, Wire


def label(number: int) -> Request:
    return Request(
        "/labels", json.dumps({"labels": [number]}).encode(), (("X-Trueline-Event-Time", "2013-02-01T00:00:00Z"),)
    )


def test_answers_come_in_the_order_of_the_questions(serve):
    line = Wire(serve.url, connections=3)
    asked = [
        Request("/predict", json.dumps({"instances": [{"distance": 7 * n}]}).encode(), (("X-Request-Id", str(n)),))
        for n in range(10)
    ]
    answers = [json.loads(answer.body)["predictions"] for answer in line.post(asked)]
    assert answers == [[n + 21.0] for n in range(10)]
    line.close()


def test_headers_and_bodies_arrive_as_sent(serve):
    line = Wire(serve.url)
    assert line.post([label(5)])[0].status == 200
    path, headers, body = serve.requests[0]
    assert path == "/labels"
    assert headers["X-Trueline-Event-Time"] == "2013-02-01T00:00:00Z"
    assert body == {"labels": [5]}
    line.close()


def test_a_dropped_connection_is_opened_again_and_the_question_asked_again(serve):
    line = Wire(serve.url, connections=1)
    line.post([label(1)])
    serve.drop_next = 1
    assert [answer.status for answer in line.post([label(2), label(3)])] == [200, 200]
    assert [body["labels"] for _, _, body in serve.requests] == [[1], [2], [3]]
    line.close()


def test_a_server_that_stays_away_is_said(monkeypatch):
    monkeypatch.setattr(wire, "PATIENCE", 0.2)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port} did not answer"):
        Wire(f"http://127.0.0.1:{port}").post([label(1)])


def test_an_address_that_is_none_is_said():
    with pytest.raises(Unavailable, match="expected http://host:port"):
        Wire("nonsense")
