"""HTTP/1.1 on the wire: order, limits, deadlines, and nothing a client sends ends in a traceback or a 500."""

from __future__ import annotations

import contextlib
import json
import re
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_world import eventually, read_all, table

BODY = b'{"x":2.5,"n":3}'
ANSWER = b'"predictions":[2.5]'


def post(body: bytes = BODY, *headers: bytes, path: bytes = b"/predict", version: bytes = b"1.1") -> bytes:
    lines = [b"POST %b HTTP/%b" % (path, version), b"Host: h", b"Content-Type: application/json"]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), *headers, b"", body])


def chunked(*chunks: bytes) -> bytes:
    head = b"POST /predict HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def statuses(received: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", received)]


def until(connection: socket.socket, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        data = connection.recv(65536)
        assert data, f"closed before {mark!r}: {received!r}"
        received += data
    return received


def test_a_connection_is_kept_and_used_again(serve):
    with serve(wanted=table()).connect() as connection:
        for _ in range(3):
            connection.sendall(post())
            assert b"connection: close" not in until(connection, b"version")


def test_pipelined_requests_are_answered_in_their_order(serve):
    server = serve(wanted=table())
    received = server.raw(*(post(b'{"x":%d,"n":1}' % x) for x in range(50)), b"GET /livez HTTP/1.1\r\n\r\n", post())
    assert statuses(received) == [200] * 52
    answered = re.findall(rb'"predictions":\[([0-9.]+)\]|"live":true', received)
    assert answered == [b"%d.0" % x for x in range(50)] + [b"", b"2.5"]


def test_a_slow_answer_holds_back_the_quick_ones_behind_it(serve):
    server = serve({1: "child"}, table())
    received = server.raw(post() + b"GET /livez HTTP/1.1\r\n\r\n" + post())
    assert re.findall(rb"predictions|live", received) == [b"predictions", b"live", b"predictions"]


def test_more_pipelined_requests_than_the_limit_wait_in_the_socket_and_are_all_answered(serve):
    received = serve(wanted=table(), pipelined=4).raw(*(post() for _ in range(300)))
    assert statuses(received) == [200] * 300


def test_a_body_may_come_in_chunks_and_in_single_bytes(serve):
    server = serve(wanted=table())
    assert ANSWER in server.raw(chunked(BODY[:3], BODY[3:7], BODY[7:]))
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(BODY, b"X-Request-Id: one"):
            connection.sendall(bytes([byte]))
        assert ANSWER in until(connection, b"version")


def test_trailers_are_no_headers(serve):
    body = chunked(BODY)[: -len(b"\r\n")] + b"X-Request-Id: late\r\nContent-Type: text/plain\r\n\r\n"
    received = serve(wanted=table()).raw(body + post())
    assert statuses(received) == [200, 200]
    assert b"late" not in received


def test_expect_100_continue_is_invited_before_the_body_comes(serve):
    server = serve(wanted=table())
    request = post(BODY, b"Expect: 100-continue")
    head, body = request[: -len(BODY)], request[-len(BODY) :]
    with server.connect() as connection:
        connection.sendall(head)
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert ANSWER in until(connection, b"version")


def test_expect_100_continue_with_too_large_a_body_is_refused_before_it_comes(serve):
    server = serve(wanted=table())
    head = b"POST /predict HTTP/1.1\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    received = server.raw(head)
    assert statuses(received) == [413]


def test_http_1_0_and_connection_close_end_after_the_answer(serve):
    server = serve(wanted=table())
    for request in (post(version=b"1.0"), post(BODY, b"Connection: close") + post()):
        received = server.raw(request, half_close=False)
        assert statuses(received) == [200]
        assert b"connection: close" in received
    assert b"connection: keep-alive" in server.raw(post(BODY, b"Connection: keep-alive", version=b"1.0"))


def test_an_offer_to_upgrade_is_ignored(serve):
    server = serve(wanted=table())
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
    assert statuses(server.raw(b"GET /livez HTTP/1.1\r\n" + b"\r\n".join(offer) + b"\r\n\r\n")) == [200]
    assert statuses(server.raw(post(BODY, *offer) + post(BODY, *offer) + post())) == [200] * 3
    assert ANSWER in server.raw(post(BODY, *offer))
    closing = server.raw(post(BODY, b"Connection: close, Upgrade", b"Upgrade: h2c") + post(), half_close=False)
    assert statuses(closing) == [200]
    assert statuses(server.raw(b"CONNECT there:443 HTTP/1.1\r\n\r\n", half_close=False)) == [405]


def test_head_is_answered_without_a_body(serve):
    received = serve(wanted=table()).raw(b"HEAD /livez HTTP/1.1\r\n\r\n")
    assert received.endswith(b"\r\n\r\n")
    assert b"content-length: 13" in received


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/v2/models/", 404),
        ("GET", "/v2/models/m/infer/more", 404),
        ("GET", "/predict", 405),
        ("DELETE", "/labels", 405),
        ("POST", "/livez", 405),
        ("GET", "/v2/models/m/infer", 405),
        ("GET", "/livez?verbose=1", 200),
        ("GET", "/%6Civez", 200),
    ],
)
def test_unknown_paths_and_wrong_methods(serve, method, path, status):
    reply = serve(wanted=table()).request(method, path)
    assert reply.status == status
    if status == 405:
        assert reply.headers["allow"]
    if status != 200:
        assert reply.error


@pytest.mark.parametrize("kind", ["text/csv", "application/x-www-form-urlencoded", "application/jsonp", "json"])
def test_another_content_type_is_415(serve, kind):
    for path in ("/predict", "/labels", "/v2/models/m/infer"):
        reply = serve(wanted=table()).post(path, BODY, {"Content-Type": kind})
        assert (reply.status, reply.error) == (415, f"Content-Type: expected application/json, got {kind}")
        break


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", ""])
def test_json_is_json_however_it_is_written(serve, kind):
    assert serve(wanted=table()).post("/predict", BODY, {"Content-Type": kind}).status == 200


def test_ten_megabytes_are_refused_at_once_when_announced_and_on_the_way_when_not(serve):
    server = serve(wanted=table())
    size = 10_000_000
    reply = server.post("/predict", b" " * size)
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert "less than 10000000 bytes" in reply.error
    megabyte = b" " * 1_000_000
    received = server.raw(chunked(*[megabyte] * 12))
    assert statuses(received) == [413]
    assert server.post("/predict", b" " * (size - 100) + BODY).status == 200


def test_long_headers_are_431_whether_they_end_or_not(serve):
    server = serve(wanted=table())
    long = b"X-Long: " + b"a" * 40_000
    assert statuses(server.raw(b"GET /livez HTTP/1.1\r\n" + long + b"\r\n\r\n")) == [431]
    assert statuses(server.raw(b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n")) == [431]
    many = b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(5000))
    assert statuses(server.raw(b"GET /livez HTTP/1.1\r\n" + many + b"\r\n")) == [431]
    with server.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n")
        for _ in range(100):
            try:
                connection.sendall(b"X-More: " + b"b" * 2000 + b"\r\n")
            except OSError:
                break
        assert statuses(read_all(connection)) == [431]


@pytest.mark.parametrize(
    ("pieces", "part"),
    [
        (b"GET /livez HTTP/1.1\r\nHost:", "headers"),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{", "body"),
        (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "body"),
    ],
)
def test_a_request_that_does_not_arrive_in_time_is_408(serve, pieces, part):
    server = serve(wanted=table(), head_seconds=0.1, body_seconds=0.1)
    received = server.raw(pieces, half_close=False)
    assert statuses(received) == [408]
    assert f"the {part} of the request did not arrive in time".encode() in received


def test_an_idle_connection_is_closed_without_a_word(serve):
    server = serve(wanted=table(), idle_seconds=0.1)
    assert server.raw(half_close=False) == b""
    received = server.raw(post(), half_close=False)
    assert statuses(received) == [200]


def test_a_client_that_does_not_read_does_not_fill_the_servers_memory(serve):
    server = serve(wanted=table(), body_seconds=0.3)
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.2)
        with contextlib.suppress(OSError):  # a timeout here, or a reset
            while True:
                connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 50)
        eventually(lambda: server.call(lambda: len(server.server._connections.open)) == 0)
    assert server.get("/livez").status == 200


def test_more_connections_than_the_cap_are_turned_away_with_a_sentence(serve):
    server = serve(wanted=table(), connections=2)
    first, second = server.connect(), server.connect()
    with first, second:
        eventually(lambda: server.call(lambda: len(server.server._connections.open)) == 2)
        received = server.raw(half_close=False)
        assert statuses(received) == [503]
        assert b"retry-after: 1" in received


def test_a_client_that_goes_away_before_its_answer_costs_nothing(serve):
    server = serve({1: "child"}, table())
    for _ in range(5):
        with server.connect() as connection:
            connection.sendall(post())
    eventually(lambda: server.metric("trueline_inference_in_progress") == 0)
    assert server.get("/livez").status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET / livez HTTP/1.1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: ten\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /livez HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: a\x00b\r\n\r\n",
    ],
)
def test_what_is_not_http_is_400_and_the_connection_ends(serve, garbage):
    server = serve(wanted=table())
    received = server.raw(garbage, half_close=False)
    assert statuses(received) == [400]
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"].startswith("this is not a request of HTTP/1.1")
    assert server.get("/livez").status == 200


PIECES = st.one_of(
    st.just(post()),
    st.just(chunked(BODY[:5], BODY[5:])),
    st.just(b"GET /livez HTTP/1.1\r\n\r\n"),
    st.binary(max_size=60),
    st.binary(max_size=60).map(post),
    st.text(max_size=30).map(lambda text: post(text.encode("utf-8", "surrogatepass"))),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "n", "instances"]), inner),
    ).map(lambda value: post(json.dumps(value).encode())),
)


@pytest.fixture
def standing(serve):
    return serve(wanted=table())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, min_size=1, max_size=4), st.data())
def test_whatever_bytes_come_the_answer_is_never_a_500_nor_a_hang(standing, pieces, data):
    stream = b"".join(pieces)
    cut = data.draw(st.integers(0, len(stream)))
    stream = stream[: data.draw(st.sampled_from([len(stream), cut]))]
    at = data.draw(st.integers(0, len(stream)))
    received = standing.raw(stream[:at], stream[at:])
    assert set(statuses(received)) <= {200, 400, 404, 405, 415, 431}
    assert b"Traceback" not in received


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 8), st.data())
def test_however_a_stream_of_good_requests_is_cut_each_is_answered(standing, count, data):
    stream = b"".join(data.draw(st.sampled_from([post(), chunked(BODY), post()])) for _ in range(count))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert statuses(standing.raw(*pieces)) == [200] * count


def test_a_defect_of_ours_is_a_500_without_its_traceback_and_is_logged(serve, monkeypatch, caplog):
    server = serve(wanted=table())
    monkeypatch.setattr("trueline.serving.predict.decode", lambda *_: 1 / 0)
    reply = server.post("/predict", BODY)
    assert (reply.status, reply.error) == (500, "an unexpected error happened here; the server's log has it")
    assert "ZeroDivisionError" in caplog.text
