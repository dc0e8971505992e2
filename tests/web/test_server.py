"""The API over real HTTP on the loopback."""

import http.client
import json
import socket
import threading

import pytest

from trueline.control import events
from trueline.errors import NotAllowed, NotAuthenticated, Unavailable
from trueline.web.server import BODY_LIMIT, ApiServer, serve_api
from trueline.web.streams import LIMIT

TOKEN = "a-token-of-enough-characters"


@pytest.fixture
def server(services):
    with ApiServer(services, "127.0.0.1", 0, TOKEN) as running:
        yield running


def exchange(server, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {TOKEN}"} if headers is None else headers
        connection.request(method, path, body, headers, encode_chunked=True)
        answer = connection.getresponse()
        return answer, json.loads(answer.read())
    finally:
        connection.close()


def test_it_answers_with_the_routers_answers(server):
    answer, body = exchange(server, "POST", "/api/v1/runs", json.dumps({"reason": "über http"}))
    assert (answer.status, body["reason"]) == (201, "über http")
    assert exchange(server, "GET", "/api/v1/runs?limit=1")[1]["items"][0]["id"] == "run-1"
    assert answer.headers["Cache-Control"] == "no-store"


def test_probes_need_no_token_and_everything_else_does(server):
    assert exchange(server, "GET", "/readyz", headers={})[0].status == 200
    answer, body = exchange(server, "GET", "/api/v1/status", headers={})
    assert (answer.status, answer.headers["Content-Type"]) == (401, "application/problem+json")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert "token" in body["detail"]


def test_a_body_beyond_the_limit_is_refused(server):
    answer, body = exchange(server, "POST", "/api/v1/runs", b"x" * (10 * BODY_LIMIT))
    assert (answer.status, body["type"]) == (413, "urn:trueline:problem:too-large")


def test_a_chunked_body_beyond_the_limit_is_refused_too(server):
    chunks = (b"x" * 65536 for _ in range(BODY_LIMIT // 65536 + 1))
    headers = {"Authorization": f"Bearer {TOKEN}", "Transfer-Encoding": "chunked"}
    answer, _ = exchange(server, "POST", "/api/v1/runs", chunks, headers)
    assert answer.status == 413


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(server, capfd):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as half:
        half.sendall(b"POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    assert exchange(server, "GET", "/api/v1/runs")[1]["items"] == []
    assert "Traceback" not in capfd.readouterr().err


def test_a_parameter_given_twice_is_refused(server):
    assert exchange(server, "GET", "/api/v1/runs?limit=1&limit=2")[0].status == 400


@pytest.mark.parametrize("path", ["/api/v1/why/%00", "/api/v1/why/%2e%2e%2f", "/api/v1/versions/%F0%9F%92%A9", "//"])
def test_strange_paths_are_simply_not_there(path, server):
    assert exchange(server, "GET", path)[0].status == 404


def streaming(server, path="/api/v1/events/stream", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}", **headers})
    return connection, connection.getresponse()


def told(answer, count):
    """So many events from a stream."""
    found = []
    while len(found) < count:
        line = answer.readline()
        assert line, "the stream ended"
        if line.startswith(b"data: "):
            found.append(json.loads(line[6:]))
    return found


def test_events_stream_as_they_come_and_resume_behind_the_last(server, services):
    services.start_run(fit=None, params={}, source=None, release=True, reason="one", actor="ada")
    connection, answer = streaming(server, "/api/v1/events/stream?after=0")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    assert [event["reason"] for event in told(answer, 1)] == ["one"]
    services.start_run(fit=None, params={}, source=None, release=True, reason="two", actor="ada")
    assert [event["id"] for event in told(answer, 1)] == [2]
    connection.close()
    services.start_run(fit=None, params={}, source=None, release=True, reason="three", actor="ada")
    connection, answer = streaming(server, "/api/v1/events/stream?after=0", **{"Last-Event-ID": "2"})
    assert [event["reason"] for event in told(answer, 1)] == ["three"]
    connection.close()


def test_a_stream_tells_what_another_process_on_the_database_wrote(past):
    with ApiServer(past.services(), "127.0.0.1", 0, TOKEN) as running:
        connection, answer = streaming(running, "/api/v1/events/stream?kind=run")
        assert answer.readline() == b"retry: 1000\n"
        with past.services()._store.read() as tx:
            settled = events.last_id(tx)
        made = past.events(3)
        assert [event["id"] for event in told(answer, 3)] == made
        assert made[0] > settled
        connection.close()


def test_an_open_stream_does_not_hold_up_the_end(services, monkeypatch):
    """It ends where nothing else would end it: no grace that runs out, no beat that wakes the stream."""
    monkeypatch.setattr("trueline.web.server.GRACE_SECONDS", None)
    monkeypatch.setattr("trueline.web.server.STOP_SECONDS", 60)
    monkeypatch.setattr("trueline.web.streams.BEAT_SECONDS", None)
    with ApiServer(services, "127.0.0.1", 0, TOKEN) as running:
        connection, answer = streaming(running)
        assert answer.readline() == b"retry: 1000\n"
    assert not running._thread.is_alive()
    assert answer.read().strip() == b""
    connection.close()


def test_streams_are_bounded(server):
    opened = [streaming(server) for _ in range(LIMIT)]
    assert all(answer.readline() for _, answer in opened)
    refused, body = exchange(server, "GET", "/api/v1/events/stream")
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    assert "too many streams" in body["detail"]
    assert exchange(server, "GET", "/api/v1/runs")[0].status == 200
    for connection, _ in opened:
        connection.close()


def test_slow_requests_do_not_hold_up_others(server, services, monkeypatch):
    entered, leave = threading.Event(), threading.Event()

    def slow():
        entered.set()
        assert leave.wait(10)
        return {"project": "example", "sentence": "", "now": services.moment, "idle": True}

    monkeypatch.setattr(services, "status", slow)
    waiting = threading.Thread(target=exchange, args=(server, "GET", "/api/v1/status"))
    waiting.start()
    assert entered.wait(10)
    assert exchange(server, "GET", "/api/v1/runs")[0].status == 200
    leave.set()
    waiting.join()


def test_a_port_in_use_is_one_sentence(services):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} on 127.0.0.1 cannot be used") as refused:
            ApiServer(services, "127.0.0.1", port, TOKEN)
    assert refused.value.exit_code == 6


def test_a_foreign_address_is_one_sentence(services):
    with pytest.raises(Unavailable, match=r"192\.0\.2\.1"):
        ApiServer(services, "192.0.2.1", 0, TOKEN)


@pytest.mark.parametrize(("token", "refusal"), [(None, NotAllowed), ("short", NotAuthenticated)])
def test_it_does_not_serve_without_a_good_token(token, refusal, services):
    with pytest.raises(refusal):
        ApiServer(services, "127.0.0.1", 0, token)


def test_serve_api_serves_until_it_is_told_to_stop(services):
    stop, heard = threading.Event(), []

    def ready(url):
        heard.append(url)
        stop.set()

    serve_api(services, "127.0.0.1", 0, TOKEN, stop=stop, ready=ready)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(heard[0].rsplit(":", 1)[1])), timeout=5)
