"""The API over real HTTP on the loopback."""

import http.client
import json
import socket
import threading

import pytest

from trueline.errors import NotAllowed, NotAuthenticated, Unavailable
from trueline.web.server import BODY_LIMIT, ApiServer, serve_api

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
