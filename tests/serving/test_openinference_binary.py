"""Open Inference v2: tensors as raw bytes, hints on content, and what is lenient about shapes."""

from __future__ import annotations

import gzip
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_world import Fake, table

from trueline.domain.contracts import Column, Kind
from trueline.errors import InvalidInput, TruelineError
from trueline.journal.records import PredictionRecord
from trueline.packaging.signature import REGRESSION, Signature
from trueline.serving import binary, openinference, tensors
from trueline.serving.paths import MOST_REMEMBERED

COLUMNS = (
    Column("f", Kind.float32),
    Column("d", Kind.float64, nullable=True),
    Column("i", Kind.integer),
    Column("b", Kind.boolean),
    Column("s", Kind.string),
)
MIXED = Signature(COLUMNS, "y", REGRESSION)
OCTETS = {"Content-Type": "application/octet-stream"}


def message(tensors, **more):
    """A body with raw tensors: (name, datatype, shape, bytes or None, data or None)."""
    inputs, raw = [], []
    for name, datatype, shape, part, data in tensors:
        one = {"name": name, "datatype": datatype, "shape": shape}
        if part is None:
            one["data"] = data
        else:
            one["parameters"] = {"binary_data_size": len(part)}
            raw.append(part)
        inputs.append(one)
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + b"".join(raw), {**OCTETS, "Inference-Header-Content-Length": str(len(head))}


def texts(*values):
    return b"".join(struct.pack("<I", len(one)) + one for one in (value.encode() for value in values))


X = ("x", "FP64", [2, 1], struct.pack("<2d", 1.5, 2.5), None)
N = ("n", "INT64", [2], struct.pack("<2q", 1, 2), None)


def test_raw_inputs_are_answered_in_json_or_raw_as_asked(serve):
    server = serve(wanted=table())
    body, headers = message([X, N])
    assert server.post("/v2/models/m/infer", body, headers).json["outputs"][0]["data"] == [1.5, 2.5]
    for asked in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]},
    ):
        body, headers = message([X, N], id="7", **asked)
        reply = server.post("/v2/models/m/infer", body, headers)
        assert (reply.status, reply.headers["content-type"]) == (200, "application/octet-stream")
        size = int(reply.headers["inference-header-content-length"])
        said = json.loads(reply.body[:size])
        assert said["outputs"] == [
            {"name": "y", "shape": [2, 1], "datatype": "FP64", "parameters": {"binary_data_size": 16}}
        ]
        assert said["id"] == "7"
        assert struct.unpack("<2d", reply.body[size:]) == (1.5, 2.5)


def test_raw_and_json_data_go_together_and_json_alone_may_ask_for_a_raw_answer(serve):
    server = serve(wanted=table())
    body, headers = message([X, ("n", "INT64", [2], None, [1, None])])
    assert server.post("/v2/models/m/infer", body, headers).status == 200
    asked = {
        "inputs": [
            {"name": "x", "shape": [1], "datatype": "FP16", "data": [2]},
            {"name": "n", "shape": [1], "datatype": "UINT8", "data": [1]},
        ]
    }
    reply = server.post("/v2/models/m/infer", {**asked, "parameters": {"binary_data_output": True}})
    assert reply.body.endswith(struct.pack("<d", 2.0))
    assert [one.features["n"] for one in server.records(PredictionRecord)] == [[1, None], [1]]


def test_the_extension_is_announced(serve):
    assert serve().get("/v2").json["extensions"] == ["binary_tensor_data", "model_repository"]


@pytest.mark.parametrize("datatype", [*binary.DTYPES, "BYTES"])
def test_every_datatype_survives_both_ways(datatype):
    if datatype == "BYTES":
        values = ["", "a", "ü€", "x" * 300]
    elif datatype == "BOOL":
        values = [True, False, True, True]
    elif datatype.startswith("FP"):
        values = [0.5, -2.0, 65504.0, 0.0]
    else:
        limits = np.iinfo(binary.DTYPES[datatype])
        values = [int(limits.min), int(limits.max), 1, 0]
    packed = binary.pack(datatype, values)
    assert binary.unpack("x", datatype, [4], packed) == values


def tensor(part, datatype="FP64", shape=(2, 1)):
    return message([("x", datatype, list(shape), part, None), N])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (tensor(b"1234567"), "input 'x': shape [2, 1] of FP64 needs 16 bytes, got 7"),
        (tensor(b"", "FP128"), "input 'x': unknown datatype 'FP128'; known are BOOL, INT8"),
        (tensor(struct.pack("<2d", 1, float("nan"))), "input 'x': expected float64, got NaN at row 1"),
        (tensor(struct.pack("<2d", float("inf"), 1)), "input 'x': expected float64, got infinity at row 0"),
        (tensor(texts("a"), "BYTES"), "input 'x': the shape needs 2 elements of BYTES, got 1"),
        (tensor(texts("a", "b"), "BYTES"), "input 'x': expected float64, got string at row 0"),
        (tensor(texts("a") + b"\xff\xff\xff\xff", "BYTES"), "input 'x': the bytes end within row 1"),
        (tensor(texts("a") + b"\x01", "BYTES"), "input 'x': the bytes end within row 1"),
        (tensor(b"\x01\0\0\0\xff" * 2, "BYTES"), "input 'x': expected text in UTF-8, got other bytes at row 0"),
        (tensor(b"", shape=(0, 1)), "input 'x': has no rows; send at least one"),
        (
            tensor(b"", shape=(2**62, 2**62)),
            "input 'x': shape [4611686018427387904, 4611686018427387904] of FP64 needs ",
        ),
    ],
)
def test_raw_bytes_that_are_no_tensor_are_a_sentence(serve, body, said):
    server = serve(wanted=table())
    reply = server.post("/v2/models/m/infer", *body)
    assert reply.status == 400
    assert reply.error.startswith(said)
    assert server.records() == []


@pytest.mark.parametrize(
    ("length", "said"),
    [
        ("99999", "Inference-Header-Content-Length is 99999, but the body has only "),
        ("-1", "Inference-Header-Content-Length: expected the size of the JSON in bytes, got '-1'"),
        ("ten", "Inference-Header-Content-Length: expected the size of the JSON in bytes, got 'ten'"),
        ("0", "the body is not an inference request: Input data was truncated"),
        ("5", "the body is not an inference request: "),
    ],
)
def test_a_wrong_size_of_the_json_is_a_sentence(serve, length, said):
    body, headers = message([X, N])
    reply = serve(wanted=table()).post(
        "/v2/models/m/infer", body, {**headers, "Inference-Header-Content-Length": length}
    )
    assert reply.status == 400
    assert reply.error.startswith(said)


def test_bytes_that_belong_to_nobody_and_inputs_without_bytes_are_sentences(serve):
    server = serve(wanted=table())
    body, headers = message([X, N])
    assert server.post("/v2/models/m/infer", body + b"1234", headers).error == (
        "4 bytes follow the last input that has a binary_data_size"
    )
    assert server.post("/v2/models/m/infer", body[:-4], headers).error == (
        "input 'n': binary_data_size is 16, but only 12 bytes are left for it"
    )
    said = {"name": "x", "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": 8}}
    assert "no header Inference-Header-Content-Length" in server.post("/v2/models/m/infer", {"inputs": [said]}).error
    size = {**said, "parameters": {"binary_data_size": "8"}}
    head = json.dumps({"inputs": [size]}).encode()
    reply = server.post("/v2/models/m/infer", head + b"12345678", {"Inference-Header-Content-Length": str(len(head))})
    assert reply.error == "input 'x': binary_data_size must be a number of bytes"
    assert server.post("/v2/models/m/infer", body, OCTETS).status == 415, "raw bytes need the header"


def test_what_is_no_number_is_null_where_that_may_be():
    call, _ = openinference.decode(*raw_of({"d": (Kind.float64, [1.0, float("nan")])}))
    assert call.columns == {"d": [1.0, None]}


def raw_of(columns):
    packed = [
        (name, tensors.DATATYPES[kind], [len(values)], binary.pack(tensors.DATATYPES[kind], values), None)
        for name, (kind, values) in columns.items()
    ]
    body, headers = message(packed)
    return body, MIXED, headers["Inference-Header-Content-Length"].encode()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(width=32, allow_nan=False, allow_infinity=False),
            st.floats(allow_nan=False, allow_infinity=False),
            st.integers(-(2**63), 2**63 - 1),
            st.booleans(),
            st.text(),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_raw_and_json_requests_mean_the_same(rows):
    columns = dict(zip([one.name for one in COLUMNS], map(list, zip(*rows, strict=True)), strict=True))
    kinds = {one.name: one.kind for one in COLUMNS}
    raw, _ = openinference.decode(*raw_of({name: (kinds[name], values) for name, values in columns.items()}))
    inputs = [
        {"name": name, "shape": [len(values), 1], "datatype": tensors.DATATYPES[kinds[name]], "data": values}
        for name, values in columns.items()
    ]
    plain, _ = openinference.decode(json.dumps({"inputs": inputs}).encode(), MIXED)
    assert raw == plain
    assert raw.columns == columns


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "n", "other", ""]),
        "shape": st.lists(st.integers(-1, 3), max_size=3) | JSON_VALUES,
        "datatype": st.sampled_from(["FP64", "INT64", "BYTES", "BOOL", "FP16", "FP7"]),
    },
    optional={
        "data": st.lists(st.none() | st.integers() | st.floats() | st.text(max_size=3), max_size=3) | JSON_VALUES,
        "parameters": st.dictionaries(
            st.sampled_from(["content_type", "binary_data_size", "shared_memory_region"]),
            st.sampled_from(["np", "base64", "odd", 8, -1, None, True]) | JSON_VALUES,
            max_size=2,
        ),
    },
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=3)},
    optional={
        "id": JSON_VALUES,
        "outputs": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["y", "z"])}, optional={"parameters": JSON_VALUES}),
            max_size=2,
        ),
        "parameters": JSON_VALUES,
    },
)


@settings(max_examples=150, deadline=None)
@given(
    st.binary() | REQUESTS | JSON_VALUES,
    st.none() | st.integers(0, 300) | st.binary(max_size=4),
    st.binary(max_size=40),
)
def test_any_body_is_a_call_or_one_sentence(given_body, size, rest):
    body = given_body if isinstance(given_body, bytes) else json.dumps(given_body).encode()
    stated = str(len(body)).encode() if isinstance(size, int) and size > 150 else size
    stated = str(stated).encode() if isinstance(stated, int) else stated
    refused = None
    try:
        call, form = openinference.decode(body if stated is None else body + rest, MIXED, stated)
    except TruelineError as problem:
        refused = problem
    if refused is None:
        assert call.rows >= 1
        assert form.output == "y"
    else:
        assert refused.status in (400, 501)


HINTS = [
    ("np", "FP64", [1.0], None, [1.0]),
    ("pd", "FP64", [1.0], None, [1.0]),
    ("str", "BYTES", ["a"], None, ["a"]),
    ("datetime", "BYTES", ["2026-01-01T00:00:00"], None, ["2026-01-01T00:00:00"]),
    ("base64", "BYTES", ["w7w="], None, ["ü"]),
    ("base64", "BYTES", None, texts("w7w="), ["ü"]),
]


@pytest.mark.parametrize(("hint", "datatype", "data", "raw", "means"), HINTS)
def test_hints_on_content_are_honoured(hint, datatype, data, raw, means):
    request = openinference.InferRequest([openinference.Input("c", [1], datatype, data, {"content_type": hint})])
    assert openinference.to_call(request, MIXED, [raw]).columns == {"c": means}


@pytest.mark.parametrize(
    ("hint", "datatype", "data", "said"),
    [
        ("base64", "BYTES", ["%%"], "input 'c': expected text in UTF-8 as base64, got something else at row 0"),
        ("base64", "BYTES", ["/w=="], "input 'c': expected text in UTF-8 as base64, got something else at row 0"),
        ("str", "FP64", [1.0], "input 'c': content_type 'str' goes with BYTES, not with FP64"),
        (
            "pickle",
            "BYTES",
            ["a"],
            "input 'c': content_type 'pickle' is not known here; known are np, pd, str, base64, datetime",
        ),
        (7, "BYTES", ["a"], "input 'c': content_type '7' is not known here; known are np, pd, str, base64, datetime"),
    ],
)
def test_hints_that_do_not_fit_are_sentences(hint, datatype, data, said):
    request = openinference.InferRequest([openinference.Input("c", [1], datatype, data, {"content_type": hint})])
    with pytest.raises(InvalidInput) as refused:
        openinference.to_call(request, MIXED)
    assert str(refused.value) == said


@pytest.mark.parametrize(("asked", "told"), [("pd", "pd"), ("np", "np"), ("str", "np")])
def test_the_answer_says_what_it_holds_to_who_gave_a_hint(serve, asked, told):
    server = serve(wanted=table())
    body, headers = message([X, N], parameters={"content_type": asked})
    said = server.post("/v2/models/m/infer", body, headers).json
    assert said["parameters"]["content_type"] == told
    assert said["outputs"][0]["parameters"] == {"content_type": "np"}


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ({"classification": 2}, 501),
        ({"shared_memory_region": "r"}, 501),
        ({"content_type": "str"}, 400),
        ({"content_type": "pd"}, 200),
        ({"classification": 0}, 200),
    ],
)
def test_outputs_may_ask_for_what_there_is(serve, output, status):
    body, headers = message([X, N], outputs=[{"name": "y", "parameters": output}])
    assert serve(wanted=table()).post("/v2/models/m/infer", body, headers).status == status


def test_one_flat_input_of_as_many_values_as_columns_is_one_row(serve):
    server = serve(wanted=table())
    flat = {"name": "input-0", "shape": [2], "datatype": "FP32", "data": [1.5, 1]}
    reply = server.post("/v2/models/m/infer", {"inputs": [flat]})
    assert reply.json["outputs"][0] == {"name": "y", "shape": [1, 1], "datatype": "FP64", "data": [1.5]}
    body, headers = message([("input-0", "FP32", [2, 2], struct.pack("<4f", 1, 7, 2, 8), None)])
    assert server.post("/v2/models/m/infer", body, headers).json["outputs"][0]["data"] == [1.0, 2.0]
    assert server.records(PredictionRecord)[-1].features == {"x": [1.0, 2.0], "n": [7.0, 8.0]}


def test_shared_memory_is_not_spoken(serve):
    said = {"name": "x", "shape": [1], "datatype": "FP64", "parameters": {"shared_memory_region": "r"}}
    reply = serve(wanted=table()).post("/v2/models/m/infer", {"inputs": [said]})
    assert (reply.status, reply.error) == (501, "input 'x': shared memory is not supported here; send the data itself")


def test_one_column_of_raw_numbers_reaches_the_model_whole(serve):
    wide = Signature((Column("x", Kind.float32),), "y", REGRESSION)
    server = serve({1: Fake(1, signature=wide)}, table())
    values = np.linspace(-1, 1, 1000, dtype="<f4")
    body, headers = message([("x", "FP32", [1000, 1], values.tobytes(), None)], parameters={"binary_data_output": True})
    reply = server.post("/v2/models/m/infer", body, headers)
    size = int(reply.headers["inference-header-content-length"])
    assert np.array_equal(np.frombuffer(reply.body[size:], "<f8"), values.astype(float))


JSON_BODY = json.dumps(
    {
        "inputs": [
            {"name": "x", "shape": [1], "datatype": "FP64", "data": [2.0]},
            {"name": "n", "shape": [1], "datatype": "INT64", "data": [1]},
        ]
    }
).encode()


@pytest.mark.parametrize(
    ("encoding", "body", "status", "said"),
    [
        ("gzip", gzip.compress(JSON_BODY, mtime=0), 200, None),
        ("deflate", zlib.compress(JSON_BODY), 200, None),
        ("identity", JSON_BODY, 200, None),
        ("gzip", JSON_BODY, 400, "the body is not gzip: Error -3 while decompressing data: incorrect header check"),
        ("gzip", gzip.compress(JSON_BODY, mtime=0)[:-9], 400, "the body is not gzip: it ends too early"),
        ("gzip", gzip.compress(JSON_BODY, mtime=0) + b"more", 400, "the body is not gzip: it goes on after its end"),
        (
            "gzip",
            gzip.compress(b" " * 200_000, mtime=0),
            413,
            "the body must have less than 100000 bytes when it is unpacked; send fewer",
        ),
        ("br", JSON_BODY, 415, "Content-Encoding: expected gzip, deflate or none, got br"),
    ],
)
def test_compressed_bodies_are_unpacked_within_the_limit(serve, encoding, body, status, said):
    server = serve(wanted=table(), body_bytes=100_000)
    reply = server.post("/v2/models/m/infer", body, {"Content-Encoding": encoding})
    assert reply.status == status
    assert said is None or reply.error.startswith(said)


def test_every_path_takes_compressed_bodies(serve):
    server = serve(wanted=table())
    row = {"x": 2.0, "n": 1}
    for path, body in (
        ("/predict", row),
        ("/invocations", {"inputs": [row]}),
        ("/v1/models/m:predict", {"instances": [row]}),
    ):
        packed = gzip.compress(json.dumps(body).encode())
        assert server.post(path, packed, {"Content-Encoding": "gzip"}).json["predictions"] == [2.0]


def test_paths_that_were_asked_for_are_remembered_but_not_without_end(serve):
    server = serve(wanted=table())
    paths = server.server._endpoints._paths
    known = len(paths.exact)
    for number in range(5):
        server.get(f"/v2/models/other-{number}")
        server.get(f"/v2/models/{'x' * 300}")
    assert len(paths.exact) == known + 5
    for number in range(2 * MOST_REMEMBERED):
        paths.find(f"/v2/models/made-up-{number}")
        assert len(paths.exact) <= known + MOST_REMEMBERED
    assert server.get("/v2/models/m").status == 200
    assert server.get("/livez").status == 200
