"""What clients get wrong: each mistake is answered with a sentence, none with a 500, and the next request is served."""

from __future__ import annotations

import gzip
import http.client
import json
import math
import socket
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_world import Fake, Running, read_all, table

from trueline.domain.contracts import Column, Contract, Kind, compile_column
from trueline.journal.records import PredictionRecord
from trueline.packaging.signature import REGRESSION, Signature
from trueline.serving.limits import Limits
from trueline.serving.server import Config
from trueline.settings import StateFolder

INPUTS = (
    Column("x", Kind.float64),
    Column("f", Kind.float32, nullable=True),
    Column("n", Kind.integer, nullable=True),
    Column("plan", Kind.string, categories=("a", "b"), strict=True),
    Column("flag", Kind.boolean),
)
CONTRACT = Contract(INPUTS)
ROW = {"x": 1.5, "f": 0.5, "n": 3, "plan": "a", "flag": True}
BODY_BYTES = 400_000
JSON = {"Content-Type": "application/json"}
REFUSALS = {400, 404, 405, 408, 411, 413, 415, 422, 431, 501}


def says_x(columns):
    return np.array(columns["x"], dtype=float)


def tensors(names=tuple(ROW)):
    kinds = {"x": "FP64", "f": "FP32", "n": "INT64", "plan": "BYTES", "flag": "BOOL"}
    return {"inputs": [{"name": one, "shape": [1], "datatype": kinds[one], "data": [ROW[one]]} for one in names]}


def binary():
    """The same in the binary extension: the values after the JSON, as bytes."""
    parts = {"x": struct.pack("<d", 1.5), "f": struct.pack("<f", 0.5), "n": struct.pack("<q", 3), "flag": b"\x01"}
    parts |= {"plan": struct.pack("<I", 1) + b"a"}
    head = tensors()
    for one in head["inputs"]:
        del one["data"]
        one["parameters"] = {"binary_data_size": len(parts[one["name"]])}
    said = json.dumps(head).encode()
    body = said + b"".join(parts[one["name"]] for one in head["inputs"])
    return body, {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(said))}


FRAME = {"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())]}}
GOOD = {
    "one row": ("/predict", json.dumps(ROW).encode(), JSON),
    "rows": ("/predict", json.dumps({"instances": [ROW, ROW]}).encode(), JSON),
    "label": ("/labels", b'{"prediction_id": "p-0", "value": 1.5, "revision": 2}', JSON),
    "labels": ("/labels", b'{"labels": [{"prediction_id": "p-0", "value": 2, "source": "s"}]}', JSON),
    "tensors": ("/v2/models/m/infer", json.dumps(tensors()).encode(), JSON),
    "pinned": ("/v2/models/m/versions/1/infer", json.dumps(tensors()).encode(), JSON),
    "binary": ("/v2/models/m/infer", *binary()),
    "kserve": ("/v1/models/m:predict", json.dumps({"instances": [list(ROW.values())]}).encode(), JSON),
    "frame": ("/invocations", json.dumps(FRAME).encode(), JSON),
    "records": ("/invocations", json.dumps({"dataframe_records": [ROW]}).encode(), JSON),
    "csv": ("/invocations", b"x,f,n,plan,flag\n1.5,0.5,3,a,true\n", {"Content-Type": "text/csv"}),
    "packed": ("/predict", gzip.compress(json.dumps(ROW).encode()), JSON | {"Content-Encoding": "gzip"}),
}


class Client:
    """One kept-alive connection, opened anew where the server has closed it."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.answered = 0  # predictions
        self._connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)

    def ask(self, path, body, headers=JSON, method="POST"):
        for attempt in (1, 2):  # the server may have closed an idle connection; it has not seen the second request then
            try:
                self._connection.request(method, path, body, dict(headers))
                response = self._connection.getresponse()
                said = response.status, response.read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self._connection.close()
                assert attempt == 1
            else:
                self.answered += said[0] == 200 and path != "/labels" and method == "POST"
                return said
        return None

    def refused(self, path, body, headers=JSON, method="POST"):
        """The status and the sentence of a refusal, after which the next request is served."""
        status, said = self.ask(path, body, headers, method)
        sentence = sentence_of(status, said)
        assert self.ask(*GOOD["one row"])[0] == 200
        return status, sentence

    def close(self):
        self._connection.close()


def sentence_of(status, said):
    assert status in REFUSALS, (status, said[:300])
    found = json.loads(said)
    sentence = found.get("error") or found.get("message")
    assert isinstance(sentence, str)
    assert sentence
    assert len(said) < 2000
    assert not any(word in sentence for word in ("Traceback", "unexpected error", "object has no", "Error:"))
    return sentence


def started(folder, signature):
    state = StateFolder(folder / "state").create()
    limits = Limits(sweep_seconds=0.02, linger_seconds=0.2, body_bytes=BODY_BYTES, body_seconds=1.0, head_seconds=1.0)
    running = Running(Config(state=state, port=0, limits=limits), {1: Fake(1, says_x, signature)})
    running.start()
    assert running.put(table())["ok"]
    return running


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = started(tmp_path_factory.mktemp("bad-input"), Signature(INPUTS, "y", REGRESSION))
    yield running
    log = running.config.state.root
    running.stop()
    del log


@pytest.fixture(scope="module")
def client(server):
    one = Client(server)
    yield one
    one.close()


@pytest.mark.parametrize("name", GOOD)
def test_the_requests_that_the_others_are_spoilt_from_are_good(client, name):
    path, body, headers = GOOD[name]
    status, said = client.ask(path, body, headers)
    assert status == 200, said


# ---- the body ------------------------------------------------------------------------------------------------------

NUMBERS = ["1e400", "-1e400", "1e-400", "-0.0", "-0", "NaN", "Infinity", "-Infinity", "1" * 400, "-" + "9" * 19]
NUMBERS += [
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "3.0",
    "3.5",
    "1e3",
    "1E+38",
    "3.5e38",
]
TEXTS = ['""', '"a"', '"c"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"1"', '"true"', '"2020-01-01T00:00:00Z"']
OTHERS = ["null", "true", "false", "[]", "{}", "[1]", '{"a": 1}', "[[[]]]"]
CELL = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS]) | st.floats(allow_nan=False).map(json.dumps)
CELL = CELL | st.integers().map(str) | st.text(max_size=8).map(json.dumps)


@settings(max_examples=150)
@given(st.lists(st.dictionaries(st.sampled_from(list(ROW)), CELL, max_size=2), min_size=1, max_size=3))
def test_a_cell_is_taken_or_refused_as_the_contract_says_and_named_with_its_row(client, changes):
    rows = [{**{name: json.dumps(value) for name, value in ROW.items()}, **change} for change in changes]
    texts = ["{" + ", ".join(f'"{name}": {cell}' for name, cell in row.items()) + "}" for row in rows]
    body = '{"instances": [' + ", ".join(texts) + "]}"
    status, said = client.ask("/predict", body.encode("utf-8", "surrogatepass"))
    wrong = violations(texts)
    if wrong is None:
        assert status == 400
        assert "the body is not valid JSON" in sentence_of(status, said)
    elif wrong:
        assert status == 400, said
        sentence = sentence_of(status, said)
        assert any(sentence == f"input '{name}': {problem} at row {row}" for row, name, problem in wrong), sentence
    else:
        assert status == 200, said
        assert json.loads(said)["predictions"] == [float(json.loads(text)["x"]) for text in texts]


def violations(texts):
    """What the contract's own rules say of each cell; None when it is not JSON that can be represented."""
    found = []
    for number, text in enumerate(texts):
        try:
            row = json.loads(text, parse_constant=refuse)
            json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, OverflowError):
            return None
        for column in INPUTS:
            value = row[column.name]
            if isinstance(value, float) and math.isinf(value):
                return None  # 1e400: no double
            problem = compile_column(column)(value)
            if problem is not None:
                found.append((number, column.name, problem))
    return found


def refuse(constant):
    raise ValueError(constant)


@settings(max_examples=200)
@given(st.sampled_from(list(GOOD)), st.data())
def test_a_body_spoilt_anywhere_is_answered_or_refused_in_a_sentence(client, name, data):
    path, body, headers = GOOD[name]
    spoilt = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(spoilt)))
        match data.draw(st.sampled_from(["cut", "insert", "change", "double"])):
            case "cut":
                del spoilt[place : place + data.draw(st.integers(1, 20))]
            case "insert":
                spoilt[place:place] = data.draw(
                    st.binary(min_size=1, max_size=6) | st.sampled_from([b'"', b"[", b"null,", b"-"])
                )
            case "change":
                spoilt[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "double":
                spoilt[place:place] = spoilt[max(0, place - 20) : place]
    status, said = client.ask(path, bytes(spoilt), headers)
    if status != 200:
        sentence_of(status, said)
        assert client.ask(*GOOD["one row"])[0] == 200


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*ROW, "instances", "data"]), inner, max_size=4)
    ),
    max_leaves=6,
)
PLACES = [
    "instances",
    "inputs",
    "labels",
    "dataframe_split",
    "dataframe_records",
    "id",
    "outputs",
    "parameters",
    "columns",
]


@settings(max_examples=150)
@given(
    st.sampled_from([path for path, *_ in GOOD.values()]),
    st.dictionaries(st.sampled_from([*PLACES, *ROW]), JSONISH) | JSONISH,
)
def test_json_of_any_other_shape_is_refused_in_a_sentence(client, path, value):
    status, said = client.ask(path, json.dumps(value).encode())
    if status != 200:
        sentence_of(status, said)


@settings(max_examples=100)
@given(st.sampled_from([path for path, *_ in GOOD.values()]), st.binary(max_size=200))
def test_any_bytes_are_refused_in_a_sentence(client, path, body):
    status, said = client.ask(path, body)
    sentence_of(status, said)


DEEP = b"[" * 100_000 + b"]" * 100_000
PATHS = sorted({path for path, *_ in GOOD.values()})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b'{"instances": ' + DEEP + b"}",
        b'{"inputs": ' + DEEP + b"}",
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"[" * 100_000,
        b"",
        b" \r\n\t",
        b"null",
        b"\xef\xbb\xbf{}",
        b"{}",
        b"[]",
        b'{"x": "\xff\xfe"}',
        json.dumps(ROW).encode("utf-16"),
        b"\x00" * 100,
        b'{"x": 1} {"x": 2}',
        b'{"x": ' + b"1" * 100_000 + b"}",
        b'{"labels": []}',
        b'{"instances": []}',
        b'{"inputs": []}',
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else value,
)
def test_what_is_no_request_at_all_is_400_on_every_path(client, path, body):
    assert client.refused(path, body)[0] == 400


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is not valid JSON: it is empty"),
        (b"[1]", 'expected an object: one row, or {"instances": [row, …]}'),
        (b'{"instances": 7}', "'instances' must be a list of rows, each an object of columns"),
        (b'{"instances": [7]}', "expected an object of columns at row 0, got a single value"),
        (b'{"x": 1}', "inputs 'f', 'n', 'plan', 'flag' are missing"),
        (b"{}", "inputs 'x', 'f', 'n', 'plan', 'flag' are missing"),
    ],
)
def test_the_sentence_says_what_was_expected(client, body, sentence):
    assert client.refused("/predict", body) == (400, sentence)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x": "1"}, "input 'x': expected float64, got string at row 1"),
        ({"x": None}, "input 'x': expected float64, got null at row 1"),
        ({"x": [1]}, "input 'x': expected float64, got list at row 1"),
        ({"f": 1e39}, "input 'f': expected float32, got a number beyond its range at row 1"),
        ({"n": 2.5}, "input 'n': expected integer, got a fraction at row 1"),
        ({"n": True}, "input 'n': expected integer, got boolean at row 1"),
        ({"n": 2**63}, "input 'n': expected integer, got a number beyond 64 bits at row 1"),
        ({"plan": "c"}, "input 'plan': "),
        ({"flag": 1}, "input 'flag': expected boolean, got integer at row 1"),
    ],
    ids=repr,
)
def test_a_wrong_value_is_named_with_input_row_expected_and_got(client, change, sentence):
    status, said = client.refused("/predict", json.dumps({"instances": [ROW, {**ROW, **change}]}).encode())
    assert status == 400
    assert said.startswith(sentence.split(", got")[0])
    assert said.endswith("at row 1")


def test_missing_inputs_are_all_named_with_their_row(client):
    rows = [ROW, {"x": 1.0, "n": 1, "flag": True}]
    status, said = client.refused("/predict", json.dumps({"instances": rows}).encode())
    assert (status, said) == (400, "inputs 'f', 'plan' are missing at row 1")


def test_of_a_name_given_twice_one_counts_and_nothing_breaks(client):
    status, said = client.ask("/predict", b'{"x": "no", "f": 1, "n": 1, "plan": "a", "flag": true, "x": 2}')
    assert status == 200
    assert json.loads(said)["predictions"] == [2.0]


def test_minus_zero_and_the_smallest_numbers_are_numbers(client):
    for text, value in (
        ("-0.0", 0.0),
        ("5e-324", 5e-324),
        ("1e-400", 0.0),
        ("1.7976931348623157e308", 1.7976931348623157e308),
    ):
        body = json.dumps(ROW).replace("1.5", text).encode()
        status, said = client.ask("/predict", body)
        assert (status, json.loads(said)["predictions"]) == (200, [value])


# ---- media types, encodings, paths ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "a" * 500, "/", ";"]
)
def test_another_media_type_is_415(client, path, kind):
    status, said = client.refused(path, b"{}", {"Content-Type": kind})
    if kind != ";":  # an empty type is none
        assert status == 415
        assert "expected" in said


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("br", b"{}", 415),
        ("gzip, gzip", gzip.compress(b"{}"), 415),
        ("gzip", b"{}", 400),
        ("gzip", gzip.compress(json.dumps(ROW).encode())[:-5], 400),
        ("gzip", gzip.compress(json.dumps(ROW).encode()) + b"more", 400),
        ("gzip", gzip.compress(bytes(50_000_000)), 413),
        ("deflate", b"", 400),
    ],
    ids=["unknown", "twice", "not packed", "cut off", "goes on", "a bomb", "empty"],
)
def test_a_packed_body_is_unpacked_within_the_limit_or_refused(client, encoding, body, status):
    assert client.refused("/predict", body, JSON | {"Content-Encoding": encoding})[0] == status


@pytest.mark.parametrize("length", ["", "-1", "1e3", "99999999999999999999", "0", "5", "999999", "0x10", " 3", "１２"])
def test_a_wrong_length_of_the_json_before_binary_tensors_is_400(client, length):
    path, body, headers = GOOD["binary"]
    wrong = {**headers, "Inference-Header-Content-Length": length.encode()}
    assert client.refused(path, body, wrong)[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/nothing", 404),
        ("POST", "/predict/", 404),
        ("POST", "//predict", 404),
        ("POST", "/../predict", 404),
        ("POST", "/%2e%2e/etc/passwd", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/m/versions/9/infer", 404),
        ("POST", "/v2/models/m/versions/one/infer", 404),
        ("POST", "/v2/models/m/versions/" + "9" * 5000 + "/infer", 404),
        ("POST", "/v2/models//infer", 404),
        ("POST", "/v2/models/%ff%00/infer", 404),
        ("POST", "/v1/models/other:predict", 404),
        ("POST", "/v1/models/m:explode", 405),
        ("POST", f"/v2/models/{'m' * 9000}/infer", 404),
        ("GET", "/v2/models/m/versions/9/ready", 404),
        ("GET", "/predict", 405),
        ("DELETE", "/predict", 405),
        ("PUT", "/labels", 405),
        ("POST", "/metrics", 405),
        ("PATCH", "/predict", 405),
        ("TRACE", "/predict", 405),
    ],
)
def test_a_wrong_path_is_404_and_a_wrong_method_405_which_says_the_right_ones(client, method, path, status):
    found, said = client.refused(path, json.dumps(tensors()).encode(), method=method)
    assert found == status, said
    assert len(said) < 500


# ---- the connection ------------------------------------------------------------------------------------------------


def told(raw):
    """Status and sentence of the first answer."""
    head, _, body = raw.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    status = int(head.split(b" ")[1])
    return status, sentence_of(status, body[:length])


POST = b"POST /predict HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"POST /predict\r\n\r\n",
        b"POST /predict HTTP/9.9\r\n\r\n",
        b"P\xffST /predict HTTP/1.1\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 5x\r\n\r\n12345",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        POST + b"Transfer-Encoding: gzip\r\n\r\n",
        POST + b"X-Request-Id: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"No colon\r\n\r\n",
        POST + b"Spaced : x\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=lambda value: repr(value[-40:]),
)
def test_what_is_not_http_is_400_and_the_connection_ends(server, client, request_):
    status, _ = told(server.raw(request_))
    assert status in (400, 413)
    assert client.ask(*GOOD["one row"])[0] == 200


@pytest.mark.parametrize(
    "pieces",
    [
        (POST + b"Content-Length: 1000\r\n\r\n" + json.dumps(ROW).encode(),),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}",),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",),
        (POST[:30],),
    ],
    ids=["short body", "chunk cut off", "last chunk missing", "headers cut off"],
)
def test_a_request_that_is_cut_off_is_never_taken_for_a_whole_one(server, client, pieces):
    assert server.raw(*pieces) == b""
    assert client.ask(*GOOD["one row"])[0] == 200


def test_a_body_that_does_not_come_is_408_in_time_and_keeps_nobody_waiting(server, client):
    with server.connect() as slow:
        slow.sendall(POST + b"Content-Length: 1000\r\n\r\n{")
        assert client.ask(*GOOD["one row"])[0] == 200
        status, said = told(read_all(slow))
    assert (status, said) == (408, "the body of the request did not arrive in time")


def test_a_body_beyond_the_limit_is_413_while_it_streams(server, client):
    with server.connect() as large:
        large.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        piece = b"%x\r\n" % 65536 + bytes(65536) + b"\r\n"
        for _ in range(BODY_BYTES // 65536 + 1):
            large.sendall(piece)
        large.shutdown(socket.SHUT_WR)
        assert told(read_all(large))[0] == 413
    assert client.ask(*GOOD["one row"])[0] == 200


def test_headers_beyond_the_limit_are_431(server):
    assert told(server.raw(POST + b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n"))[0] == 431
    many = b"".join(b"X-%d: a\r\n" % number for number in range(20_000))
    assert told(server.raw(POST + many + b"\r\n"))[0] == 431


@pytest.mark.parametrize("name", [b"a\tb", b"\xff\xfe", b"x" * 5000, b'"', b"%0d%0aSet-Cookie: a=b", b"a\\r\\nb"])
def test_what_a_client_calls_its_request_cannot_add_a_header_to_the_answer(server, client, name):
    body = json.dumps(ROW).encode()
    head = POST + b"X-Request-Id: " + name + b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    said = server.raw(head + body)
    names = [line.partition(b":")[0].lower() for line in said.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    assert said.startswith(b"HTTP/1.1 200")
    assert sorted(names) == sorted(set(names))
    assert b"set-cookie" not in names
    client.answered += 1


# ---- afterwards ----------------------------------------------------------------------------------------------------


def test_nothing_of_it_was_a_500_and_only_what_was_answered_is_in_the_journal(server, client, caplog):
    assert client.ask(*GOOD["one row"])[0] == 200
    status, said = client.ask("/metrics", None, {}, "GET")
    assert status == 200
    codes = {line.rpartition('code="')[2][:3] for line in said.decode().splitlines() if "requests_total{" in line}
    assert "200" in codes
    assert not [code for code in codes if code.startswith("5") and code != "501"], codes
    assert len(server.records(PredictionRecord)) == client.answered
    assert "a defect in trueline" not in caplog.text


def test_a_contract_that_forbids_unknown_columns_is_kept_at_serving_too(tmp_path):
    signature = Signature(INPUTS, "y", REGRESSION)
    running = started(tmp_path, replace(signature, allowed=frozenset({*ROW, "id"})))
    client = Client(running)
    assert client.ask("/predict", json.dumps({**ROW, "id": "known, not read"}).encode())[0] == 200
    wrong = "input 'oops': is not in the contract, which forbids unknown columns; leave it out"
    assert client.refused("/predict", json.dumps({**ROW, "oops": 1}).encode()) == (400, wrong)
    assert client.refused("/predict", json.dumps({"instances": [{**ROW, "oops": 1}]}).encode()) == (400, wrong)
    more = tensors()
    more["inputs"].append({"name": "oops", "shape": [1], "datatype": "FP64", "data": [1.0]})
    assert client.refused("/v2/models/m/infer", json.dumps(more).encode())[0] == 400
    assert client.refused("/invocations", json.dumps({"dataframe_records": [{**ROW, "oops": 1}]}).encode()) == (
        400,
        wrong,
    )
    client.close()
    running.stop()
