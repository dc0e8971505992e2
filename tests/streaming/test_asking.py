"""The pipelined client against a real model server."""

from __future__ import annotations

import socket
import threading

import pytest

from trueline.errors import InvalidInput, NotAuthenticated, Unavailable
from trueline.journal.records import PredictionRecord
from trueline.streaming import outcomes
from trueline.streaming.asking import ModelServer, Reply, Request


@pytest.fixture
def connect():
    made: list[ModelServer] = []

    def to(url, **options):
        made.append(ModelServer(url, **options))
        return made[-1]

    yield to
    for one in made:
        one.close()


def row(number, body=None, path="/predict"):
    return Request(path, f"in-0-{number}", body or b'{"x": %d, "n": 1}' % number, "2026-01-01T00:00:00Z")


def test_many_requests_leave_before_the_first_answer_and_each_gets_its_own(serve, connect):
    server = serve()
    client = connect(server.url)
    bodies = {7: b"{", 9: b'{"x": 1}', 11: b'{"instances": [%s]}' % b",".join([b'{"x": 1, "n": 1}'] * 200)}
    for _ in range(2):  # the second on the same connection
        replies = client.ask([row(number, bodies.get(number)) for number in range(64)])
        assert [one.status for one in replies] == [400 if number in (7, 9) else 200 for number in range(64)]
        assert all(b'"predictions":[%d.0]' % n in replies[n].body for n in range(64) if n not in bodies)
    records = server.records(PredictionRecord)
    assert len(records) == 62  # the second time they were asked under the same keys
    assert {one.unit for one in records} == {f"in-0-{number}" for number in range(64)} - {"in-0-7", "in-0-9"}


def test_a_server_that_goes_away_leaves_replies_out_and_is_found_again(serve, connect):
    server = serve()
    client = connect(server.url)
    assert client.ask([row(1)])[0].status == 200
    server.stop()
    assert client.ask([row(1), row(2)]) == [None, None]
    serve(port=client._address[1])
    assert [one.status for one in client.ask([row(1), row(2)])] == [200, 200]


def test_a_model_server_is_recognised_without_a_prediction(serve, connect):
    server = serve()
    client = connect(server.url)
    outcomes.recognise(client.check(), server.url)
    assert client.ask([row(1)])[0].status == 200, "on the same connection"
    assert len(server.records(PredictionRecord)) == 1


@pytest.fixture
def says():
    """A server at which every connection hears the same bytes; its address."""
    ended = []

    def start(sent):
        listening = socket.create_server(("127.0.0.1", 0))

        def answer():
            connection, _ = listening.accept()
            with listening, connection:
                connection.recv(65536)
                connection.sendall(sent)

        ended.append(threading.Thread(target=answer))
        ended[-1].start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for thread in ended:
        thread.join()


def http(status, body):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize(
    ("sent", "error", "said"),
    [
        (
            http(b"404 Not Found", b"<html>no such page"),
            Unavailable,
            "{url} answers 404 (with a page for people), so it is no model server of trueline; see --server",
        ),
        (
            http(b"200 OK", b'{"name": "triton"}'),
            Unavailable,
            "{url} is another server, no model server of trueline; correct --server",
        ),
        (
            http(b"200 OK", b"[]"),
            Unavailable,
            "{url} is another server, no model server of trueline; correct --server",
        ),
        (
            http(b"401 Unauthorized", b'{"error": "a token is needed"}'),
            NotAuthenticated,
            "the model server at {url} refuses: a token is needed; set TRUELINE_TOKEN",
        ),
        (
            b"",
            Unavailable,
            "the model server at {url} cannot be reached (it closed the connection); start it, or correct --server",
        ),
        (
            b"SSH-2.0-OpenSSH\r\n",
            Unavailable,
            "the model server at {url} cannot be reached (what it says is not HTTP); start it, or correct --server",
        ),
    ],
)
def test_what_is_no_model_server_is_one_sentence(says, connect, sent, error, said):
    url = says(sent)
    with pytest.raises(error) as caught:
        outcomes.recognise(connect(url).check(), url)
    assert str(caught.value) == said.format(url=url)


def test_an_overloaded_server_is_recognised(says, connect):
    url = says(http(b"503 Service Unavailable", b'{"error": "too much to do"}'))
    outcomes.recognise(connect(url).check(), url)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\nno",
            [Reply(429, b"no", 3.0), None],
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal", [None, None]),
        (b"nonsense\r\n\r\n", [None, None]),
        (b"", [None, None]),
    ],
)
def test_a_connection_cut_off_gives_what_came(connect, sent, expected):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(sent)

        thread = threading.Thread(target=answer)
        thread.start()
        client = connect(f"http://127.0.0.1:{listening.getsockname()[1]}")
        assert client.ask([row(1), row(2)]) == expected
        thread.join()


def test_a_server_that_says_nothing_is_given_up_after_a_while(connect):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = connect(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=0.05)
        assert client.ask([row(1)]) == [None]


@pytest.mark.parametrize(
    "url", ["localhost:80", "https://m:1", "http://", "http://m:abc", "http://m:70000", "http://m:0", "http://mödel:80"]
)
def test_an_address_that_is_none_is_a_sentence(url):
    with pytest.raises(InvalidInput, match="is not the address of a model server; expected http://HOST:PORT"):
        ModelServer(url)
