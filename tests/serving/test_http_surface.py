"""What HTTP itself promises on every path: methods, echoes, invitations, encodings."""

from __future__ import annotations

import gzip
import json

import pytest
from serving_world import read_all, table
from test_protocol import ANSWER, BODY, chunked, post, statuses

PATHS = {
    "/predict": "POST, OPTIONS",
    "/labels": "POST, OPTIONS",
    "/invocations": "POST, OPTIONS",
    "/v2/models/m/infer": "POST, OPTIONS",
    "/v1/models/m:predict": "POST, OPTIONS",
    "/metrics": "GET, HEAD, OPTIONS",
    "/v2/models/m": "GET, HEAD, OPTIONS",
}
NAME = {"X-Request-Id": "mine"}


@pytest.fixture
def server(serve):
    return serve(wanted=table())


@pytest.mark.parametrize("path", PATHS)
def test_options_tells_what_a_path_takes_and_so_does_the_refusal_of_another_method(server, path):
    told = server.request("OPTIONS", path)
    assert (told.status, told.headers["allow"], told.body) == (200, PATHS[path], b"")
    for method in ("PUT", "DELETE", "PATCH", "TRACE"):
        refused = server.request(method, path)
        assert (refused.status, refused.headers["allow"]) == (405, PATHS[path])
        assert refused.error.endswith(f"not {method}")


def test_options_of_a_path_that_is_not_there_is_404(server):
    assert server.request("OPTIONS", "/nothing").status == 404


def test_options_of_the_server_as_a_whole_is_answered(server):
    received = server.raw(b"OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert statuses(received) == [200]


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/v2", "/nothing", "/predict", "/v2/models/other"])
def test_head_has_the_headers_of_get_and_no_body(server, path):
    got, headed = server.get(path), server.request("HEAD", path)
    assert (headed.status, headed.body) == (got.status, b"")
    assert headed.headers["content-type"] == got.headers["content-type"]
    received = server.raw(b"HEAD %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode() + post())
    assert statuses(received) == [got.status, 200]
    assert received.count(b"\r\n\r\n") == 2


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/predict", {"x": 2.5, "n": 3}, 200),
        ("/predict", {"x": "2.5", "n": 3}, 400),
        ("/predict", b"{", 400),
        ("/labels", {"prediction_id": "p-0", "value": 1}, 200),
        ("/labels", {"prediction_id": "p-0"}, 400),
        ("/invocations", {"instances": [[2.5, 3]]}, 200),
        ("/invocations", {"instances": [[2.5]]}, 400),
        ("/v1/models/m:predict", {"instances": [[2.5, 3]]}, 200),
        ("/v1/models/other:predict", {"instances": [[2.5, 3]]}, 404),
        ("/v2/models/m/infer", {"inputs": []}, 400),
        ("/v2/models/m/versions/9/infer", {"inputs": []}, 404),
    ],
)
def test_what_a_caller_calls_a_request_comes_back_with_refusals_too(server, path, body, status):
    reply = server.post(path, body, NAME)
    assert (reply.status, reply.headers["x-request-id"]) == (status, "mine")


def test_each_sending_of_a_request_is_answered_under_its_own_name(server):
    row, key = {"x": 2.5, "n": 3}, {"Idempotency-Key": "k"}
    names = [server.post("/predict", row, key | {"X-Request-Id": name}).headers["x-request-id"] for name in "ab"]
    assert names == ["a", "b"]


def test_an_empty_key_is_none(server):
    row, key = {"x": 2.5, "n": 3}, {"Idempotency-Key": ""}
    first, second = (server.post("/predict", row, key) for _ in range(2))
    assert first.json["prediction_ids"] != second.json["prediction_ids"]


def test_who_speaks_http_1_0_is_not_invited_to_send_his_body(server):
    received = server.raw(post(BODY, b"Expect: 100-continue", version=b"1.0"), half_close=False)
    assert statuses(received) == [200]
    assert ANSWER in received


def test_an_invitation_waits_for_the_answers_before_it(server):
    waiting = post(BODY, b"Expect: 100-continue")
    with server.connect() as connection:
        connection.sendall(post() + waiting[: -len(BODY)])
        received = b""
        while b"100 Continue\r\n\r\n" not in received:
            received += connection.recv(65536)
        assert statuses(received) == [200, 100]
        connection.sendall(waiting[-len(BODY) :] + post(BODY, b"Connection: close"))
        assert statuses(read_all(connection)) == [200, 200]


def test_a_client_of_http_1_0_may_keep_its_connection_and_ask_again(server):
    kept = post(BODY, b"Connection: keep-alive", version=b"1.0")
    assert statuses(server.raw(kept + kept + post(version=b"1.0"), half_close=False)) == [200, 200, 200]


@pytest.mark.parametrize("path", [b"/predict", b"http://h/predict", b"/predict?x=1", b"/%70redict"])
def test_a_path_is_a_path_however_it_is_written(server, path):
    assert ANSWER in server.raw(post(path=path))


@pytest.mark.parametrize("accepted", ["gzip", "br;q=1.0, *;q=0", "identity", ""])
def test_answers_are_plain_whatever_encoding_is_accepted(server, accepted):
    reply = server.post("/predict", json.loads(BODY), {"Accept-Encoding": accepted, "Accept": "text/html"})
    assert reply.json["predictions"] == [2.5]
    assert "content-encoding" not in reply.headers


@pytest.mark.parametrize("path", ["/predict", "/labels", "/invocations", "/v1/models/m:predict"])
def test_a_body_may_be_packed_on_every_path(server, path):
    plain = {
        "/predict": BODY,
        "/labels": b'{"prediction_id": "p-0", "value": 1}',
        "/invocations": b'{"instances": [[2.5, 3]]}',
        "/v1/models/m:predict": b'{"instances": [[2.5, 3]]}',
    }[path]
    assert server.post(path, gzip.compress(plain), {"Content-Encoding": "gzip"}).status == 200
    refused = server.post(path, plain, {"Content-Encoding": "br"})
    assert (refused.status, refused.headers["accept-encoding"]) == (415, "gzip, deflate")


def test_a_body_in_chunks_on_a_kept_connection_ends_where_it_ends(server):
    assert statuses(server.raw(chunked(BODY) * 3 + post() + chunked(b"{") + post())) == [200] * 4 + [400, 200]


def test_another_media_type_is_not_taken_for_another_encoding(server):
    refused = server.post("/predict", BODY, {"Content-Type": "text/plain"})
    assert (refused.status, "accept-encoding" in refused.headers) == (415, False)


@pytest.mark.parametrize("path", ["/predict", "/labels", "/v1/models/m:predict"])
def test_json_in_another_charset_is_refused_and_not_misread(server, path):
    for kind in ("application/json; charset=utf-16", 'application/json;charset="ISO-8859-1"'):
        reply = server.post(path, BODY, {"Content-Type": kind})
        assert reply.status == 415
        assert "expected application/json in UTF-8, got charset=" in reply.error
    for kind in ('application/json; charset="UTF-8"', "application/json;charset=us-ascii; profile=x", "text/json;"):
        assert server.post(path, b"{}", {"Content-Type": kind}).status == 400


def test_a_transfer_coding_that_is_not_spoken_is_501(server):
    packed = chunked(BODY).replace(b"chunked", b"gzip, chunked")
    received = server.raw(post() + packed + post(), half_close=False)
    assert statuses(received) == [200, 501]
    for spelled in (b"Chunked", b"chunked "):
        assert statuses(server.raw(chunked(BODY).replace(b"chunked", spelled))) == [200]


def test_a_refusal_of_mlflows_path_has_mlflows_form_whatever_refused_it(server, monkeypatch):
    monkeypatch.setattr(server.server._endpoints, "_authorization", b"Bearer secret")
    reply = server.post("/invocations", b"{}", NAME)
    assert (reply.status, reply.json["error_code"]) == (401, "UNAUTHENTICATED")
    assert reply.headers["x-request-id"] == "mine"
    assert server.post("/predict", b"{}").error.startswith("a bearer token is needed")
