"""Clients that are slow, greedy or absent, many of them at once: each has its bounds, and the others are served."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import socket
import threading

import pytest
from serving_world import Fake, eventually, read_all, table

from trueline.serving import descriptors

BODY = b'{"x":2.5,"n":3}'
REQUEST = b"POST /predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
LIVE = b"GET /livez HTTP/1.1\r\n\r\n"


def statuses(received: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", received)]


def is_served(server) -> bool:
    return server.post("/predict", {"x": 2.5, "n": 3}).json["predictions"] == [2.5]


def until_cut(connection: socket.socket, trickle: bytes = b"") -> bytes:
    """What is received until the server closes, while one byte after the other is sent."""
    received = b""
    connection.settimeout(0.05)
    for number in range(400):
        with contextlib.suppress(OSError):
            if trickle:
                connection.sendall(trickle[number % len(trickle) :][:1])
        try:
            data = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return received
        if not data:
            return received
        received += data
    raise AssertionError(f"it was never cut off: {received[-200:]!r}")


@pytest.fixture
def crowd():
    """Open many connections; they are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda server, count: [stack.enter_context(server.connect()) for _ in range(count)]


# -- time


@pytest.mark.parametrize(
    ("begins", "part"),
    [
        (b"GET /livez HTTP/1.1\r\nX: ", "headers"),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 15\r\n\r\n", "body"),
        (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "body"),
    ],
)
def test_bytes_that_trickle_in_do_not_prolong_the_time_there_is(serve, begins, part):
    server = serve(wanted=table(), head_seconds=0.3, body_seconds=0.3)
    trickle = b"X" if part == "headers" else b"1\r\n{\r\n" if b"chunked" in begins else b" "
    with server.connect() as connection:
        connection.sendall(begins)
        received = until_cut(connection, trickle if b"chunked" in begins or part == "headers" else b"")
    assert statuses(received) == [408]
    assert f"the {part} of the request did not arrive in time".encode() in received


def test_a_head_that_began_in_one_packet_with_the_end_of_another_has_its_time_too(serve):
    """Whoever is asked for the rest of his first head once is asked for that of his second as well."""
    server = serve(wanted=table(), head_seconds=0.3)
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"GET /livez HT")
        eventually(lambda: server.call(lambda: any(one._in_head for one in server.server._connections.open)))
        connection.sendall(b"TP/1.1\r\n\r\nGET /livez HTTP/1.1\r\nX: ")
        received = until_cut(connection, b"y")
    assert statuses(received) == [200, 408]


def test_a_connection_without_a_request_is_closed(serve):
    server = serve(wanted=table(), idle_seconds=0.2)
    with server.connect() as connection:
        assert until_cut(connection) == b""


def test_who_never_reads_is_cut_off_and_costs_a_bounded_amount(serve):
    """A hundred megabytes of answers are asked for, and nobody takes them."""
    server = serve({1: Fake(1)}, table(), body_seconds=0.5)
    size = len(server.get("/openapi.json").body)
    opened = server.server._connections
    most = 0

    def held() -> bool:
        nonlocal most
        most = max(most, *server.call(lambda: [one._transport.get_write_buffer_size() for one in opened.open]), 0)
        return most > 0

    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.2)
        with contextlib.suppress(OSError):
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\n\r\n" * (100_000_000 // size))
        eventually(held)
        assert is_served(server)
        eventually(lambda: not held() or not server.call(lambda: len(opened.open)))
        assert most <= 2 * 65_536 + 2 * size, "whatever he asked for"


# -- many


@pytest.mark.parametrize("count", [200, pytest.param(3000, marks=pytest.mark.real)])
def test_a_crowd_of_slow_senders_keeps_nobody_out_and_ends(serve, crowd, count):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 3 * count:
        pytest.skip("this machine does not allow so many open files")
    descriptors.connections(2 * count)  # both ends are in this process
    server = serve(wanted=table(), head_seconds=2.0, body_seconds=2.0, connections=5000)
    slow = crowd(server, count)
    for number, connection in enumerate(slow):
        connection.sendall(REQUEST[: 10 + number % (len(REQUEST) - 11)])
    assert is_served(server)
    opened = server.server._connections
    for connection in slow:
        assert statuses(read_all(connection)) == [408]
        connection.close()
    eventually(lambda: server.call(lambda: len(opened.open)) == 0)
    assert opened.held == 0
    assert server.metric('trueline_inference_requests_total{model="m",version="",role="",code="408"}') == count


def test_a_flood_on_some_connections_does_not_starve_the_others(serve):
    """Four clients send a megabyte of tiny requests each, in one piece; others are answered meanwhile, and they too."""
    server = serve(wanted=table())
    count = 20_000
    found: list[int] = []

    def flood() -> None:
        with server.connect() as connection:
            sender = threading.Thread(target=connection.sendall, args=(LIVE * count,))
            sender.start()
            received, rest = 0, b""
            while received < count:
                data = rest + connection.recv(1 << 20)
                received += data.count(b'"live":true')
                rest = data[-10:]  # the words may be cut in two
            sender.join()
            found.append(received)

    floods = [threading.Thread(target=flood) for _ in range(4)]
    for one in floods:
        one.start()
    served = 0
    while any(one.is_alive() for one in floods):
        assert is_served(server)
        served += 1
    for one in floods:
        one.join()
    assert found == [count] * 4
    assert served >= 3


def test_a_new_client_gets_the_place_of_the_one_who_is_idle_for_longest(serve, crowd):
    server = serve(wanted=table(), connections=3)
    idle = crowd(server, 3)
    idle[0].sendall(LIVE)
    assert b"200" in idle[0].recv(1000)
    opened = server.server._connections
    eventually(lambda: server.call(lambda: len(opened.open)) == 3)
    server.call(lambda: [setattr(one, "deadline", one.deadline - 2 - len(one._headers)) for one in opened.open])
    assert is_served(server)
    assert server.call(lambda: len(opened.open)) <= 3


class Looked:
    """The connections, counting how often all of them are looked at."""

    def __init__(self, found):
        self.found, self.times = found, 0

    def __iter__(self):
        self.times += 1
        return iter(self.found)

    def __len__(self):
        return len(self.found)

    def __contains__(self, one):
        return one in self.found

    def add(self, one):
        self.found.add(one)

    def discard(self, one):
        self.found.discard(one)


def test_newcomers_at_the_cap_do_not_each_look_at_all_connections(serve, crowd):
    server = serve(wanted=table(), connections=40, sweep_seconds=3600)
    opened = server.server._connections
    idle = crowd(server, 40)
    eventually(lambda: server.call(lambda: len(opened.open)) == 40)

    def since_long_ago() -> None:
        for number, one in enumerate(sorted(opened.open, key=lambda one: one._transport.get_extra_info("peername")[1])):
            one.deadline -= 100 - number
        opened.open = Looked(opened.open)

    server.call(since_long_ago)
    newcomers = crowd(server, 20)
    for one in newcomers:
        one.sendall(LIVE)
        assert b"200" in one.recv(1000)
    assert server.call(lambda: opened.open.times) == 1
    assert server.call(lambda: len(opened.open)) == 40
    longest, *_, shortest = sorted(idle, key=lambda one: one.getsockname()[1])
    shortest.sendall(LIVE)
    assert b"200" in shortest.recv(1000)
    assert until_cut(longest) == b""


def test_who_is_no_longer_idle_when_his_turn_comes_stays(serve, crowd):
    server = serve(wanted=table(), connections=2, sweep_seconds=3600)
    opened = server.server._connections
    crowd(server, 2)
    eventually(lambda: server.call(lambda: len(opened.open)) == 2)

    def make_way_twice() -> list[bool]:
        first, second = opened.open
        first.deadline -= 100
        second.deadline -= 50
        made = [opened.make_way()]
        second.deadline += 50  # it was asked something, and has answered
        return [*made, opened.make_way()]

    assert server.call(make_way_twice) == [True, False]


def test_who_is_busy_is_not_sent_away_for_a_new_client(serve, crowd):
    server = serve(wanted=table(), connections=3)
    busy = crowd(server, 3)
    for one in busy:
        one.sendall(REQUEST[:-3])
    opened = server.server._connections
    eventually(lambda: server.call(lambda: sum(one._receiving for one in opened.open)) == 3)
    with server.connect() as late:
        received = read_all(late)
    assert statuses(received) == [503]
    assert b"retry-after: 1" in received
    for one in busy:
        one.sendall(REQUEST[-3:])
        assert b"200 OK" in one.recv(10_000)


def test_unfinished_bodies_have_a_bound_together(serve, crowd):
    server = serve(wanted=table(), held_bytes=1_000_000)
    head = b"POST /predict HTTP/1.1\r\nContent-Length: 900000\r\n\r\n"
    greedy = crowd(server, 4)
    for one in greedy:
        one.sendall(head + b" " * 400_000)
    opened = server.server._connections
    refused = [one for one in greedy if answered(one)]
    assert 1 <= len(refused) <= 2
    for one in refused:
        received = read_all(one)
        assert statuses(received) == [503]
        assert b"too many large bodies come in at once; try again in a second" in received
        assert b"retry-after: 1" in received
    assert server.call(lambda: opened.held) <= 1_000_000
    assert is_served(server)
    for one in greedy:
        one.close()
    eventually(lambda: server.call(lambda: opened.held) == 0)


def answered(connection: socket.socket) -> bool:
    connection.settimeout(1.0)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False


@pytest.mark.parametrize(
    "tail", [b"0\r\nX: " + b"y" * 200_000, b"0\r\n" + b"X: y\r\n" * 30_000, b"1;" + b"z" * 200_000]
)
def test_trailers_and_chunk_extensions_without_end_are_refused(serve, tail):
    server = serve(wanted=table())
    head = b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
    with server.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head + tail)
        with contextlib.suppress(ConnectionError):
            received = read_all(connection)
    assert statuses(received) in ([431], [400])
    assert is_served(server)


# -- gone


@pytest.mark.parametrize("sent", [b"", b"POST", REQUEST[:-1], LIVE + b"GET /li"])
def test_who_closes_his_half_in_the_middle_is_answered_what_he_asked_and_let_go(serve, sent):
    server = serve(wanted=table())
    assert statuses(server.raw(sent)) == ([200] if sent.startswith(LIVE) else [])
    eventually(lambda: server.call(lambda: len(server.server._connections.open)) == 0)


def test_who_hangs_up_before_his_answer_leaves_nothing_behind(serve):
    server = serve({1: "child"}, table())
    for _ in range(20):
        with server.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST
            connection.sendall(REQUEST)
    eventually(lambda: server.metric("trueline_inference_in_progress") == 0)
    assert server.post("/predict", {"x": 2.5, "n": 3}).status == 200
    eventually(lambda: server.call(lambda: len(server.server._connections.open)) == 0)


def test_the_bound_on_connections_leaves_descriptors_for_the_rest(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 2048))
    asked = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: asked.append(pair))
    assert descriptors.connections(500) == 500
    assert descriptors.connections(1500) == 1500
    assert descriptors.connections(4096) == 2048 - descriptors.OURS
    assert asked == [(1628, 2048), (2048, 2048)]

    def forbidden(_, pair):
        raise ValueError(pair)

    monkeypatch.setattr(resource, "setrlimit", forbidden)
    assert descriptors.connections(4096) == 1024 - descriptors.OURS


def test_who_reads_his_last_answer_slowly_gets_it_whole(serve):
    server = serve(wanted=table(), body_bytes=20_000_000, linger_seconds=0.0)
    rows = 200_000  # their answer is larger than what the kernel keeps
    body = json.dumps({"instances": [{"x": 1, "n": 1}] * rows}).encode()
    head = b"POST /predict HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(head + body)
        received = connection.recv(1000)
        opened = server.server._connections
        for _ in range(3):  # sweeps go by
            before = opened.now
            eventually(lambda before=before: opened.now > before)
        received += read_all(connection)
    said, _, body = received.partition(b"\r\n\r\n")
    assert b"content-length: %d\r\n" % len(body) in said + b"\r\n"
    eventually(lambda: server.call(lambda: len(opened.open)) == 0)
