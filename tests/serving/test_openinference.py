"""Open Inference v2: the request and response forms, metadata, health, versions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from serving_world import SIGNATURE, Fake, route, table

from trueline.domain.contracts import Column, Kind
from trueline.domain.routes import Arm
from trueline.journal.records import PredictionRecord, ShadowRecord
from trueline.packaging.signature import REGRESSION, Signature

X = {"name": "x", "shape": [2, 1], "datatype": "FP64", "data": [1.5, 2.5]}
N = {"name": "n", "shape": [2], "datatype": "INT64", "data": [1, None]}
CANARY = (route(1), route(2, Arm.shadow, 0))


def test_columns_come_as_tensors_and_the_answer_is_one(serve):
    server = serve(wanted=table())
    reply = server.post("/v2/models/m/infer", {"id": "42", "inputs": [X, N], "outputs": [{"name": "y"}]})
    assert reply.status == 200
    request_id = reply.headers["trueline-request-id"]
    assert reply.json == {
        "model_name": "m",
        "model_version": "1",
        "id": "42",
        "parameters": {"request_id": request_id},
        "outputs": [{"name": "y", "shape": [2, 1], "datatype": "FP64", "data": [1.5, 2.5]}],
    }
    (record,) = server.records(PredictionRecord)
    assert (record.request_id, record.unit, record.rows) == (request_id, "42", 2)
    assert record.features == {"x": [1.5, 2.5], "n": [1, None]}


def test_nested_data_and_one_matrix_for_all_columns_are_taken(serve):
    server = serve(wanted=table())
    nested = X | {"data": [[1.5], [2.5]]}
    assert server.post("/v2/models/m/infer", {"inputs": [nested, N]}).json["outputs"][0]["data"] == [1.5, 2.5]
    matrix = {"name": "input-0", "shape": [3, 2], "datatype": "FP32", "data": [[1, 1], [2, 1], [3, 1]]}
    assert server.post("/v2/models/m/infer", {"inputs": [matrix]}).json["outputs"][0]["data"] == [1, 2, 3]


def test_a_named_version_answers_itself_and_is_no_evidence(serve):
    server = serve({1: Fake(1), 2: Fake(2)}, table(routes=CANARY))
    reply = server.post("/v2/models/m/versions/2/infer", {"inputs": [X, N]})
    assert (reply.json["model_version"], reply.json["outputs"][0]["data"]) == ("2", [3, 5])
    (record,) = server.records(PredictionRecord)
    assert (record.version, record.arm, record.weight) == (2, "pinned", 1.0)
    assert server.records(ShadowRecord) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v2/models/other/infer", "no model 'other' is served here; this server has 'm'"),
        ("/v2/models/m/versions/9/infer", "version 9 of 'm' is not loaded here; loaded: 1"),
        ("/v2/models/m/versions/nine/infer", "no version 'nine': versions are whole numbers"),
        ("/v2/models/m/versions/-1/infer", "no version '-1': versions are whole numbers"),
        (f"/v2/models/m/versions/{'9' * 400}/infer", f"no version '{'9' * 100}': versions are whole numbers"),
    ],
)
def test_an_unknown_model_or_version_is_404(serve, path, said):
    reply = serve(wanted=table()).post(path, {"inputs": [X, N]})
    assert (reply.status, reply.error) == (404, said)


def inputs(**changes):
    return {"inputs": [X | changes, N]}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (inputs(data=[1.5, "a"]), "input 'x': expected FP64, got string at row 1"),
        (inputs(data=[1.5, None]), "input 'x': expected float64, got null at row 1"),
        (inputs(data=[1.5, True]), "input 'x': expected FP64, got boolean at row 1"),
        (inputs(data=[1.5, {}]), "input 'x': expected FP64, got object at row 1"),
        (inputs(datatype="INT8", data=[1, 300]), "input 'x': expected INT8, got 300 at row 1"),
        (inputs(datatype="UINT8", data=[1, -1]), "input 'x': expected UINT8, got -1 at row 1"),
        (inputs(datatype="BOOL"), "input 'x': expected BOOL, got number at row 0"),
        (inputs(datatype="BYTES", data=["a", "b"]), "input 'x': expected float64, got string at row 0"),
        (inputs(datatype="FLOAT"), "input 'x': unknown datatype 'FLOAT'; known are BOOL, INT8, INT16, INT32, INT64"),
        (inputs(data=[1.5]), "input 'x': shape [2, 1] needs 2 values, got 1"),
        (inputs(shape=[3, 1]), "input 'x': shape [3, 1] needs 3 values, got 2"),
        (inputs(shape=[]), "input 'x': expected shape [rows, 1], got []"),
        (inputs(shape=[-1, 1]), "input 'x': expected shape [rows, 1], got [-1, 1]"),
        (inputs(shape=[0, 1], data=[]), "input 'x': has no rows; send at least one"),
        (inputs(shape=[1, 2]), "input 'x': expected shape [rows, 1], or one input of [rows, 2], got [1, 2]"),
        ({"inputs": [X]}, "input 'n' is missing"),
        ({"inputs": [X, X]}, "input 'x': is given twice"),
        ({"inputs": [X, N | {"shape": [1], "data": [1]}]}, "input 'n': expected 2 rows, got 1"),
        ({"inputs": []}, "'inputs' is empty; send one tensor for each column of the model"),
        ({}, "the body is not an inference request: Object missing required field `inputs`"),
        ({"inputs": [{"name": "x"}]}, "the body is not an inference request: Object missing required field `shape`"),
        ({**inputs(), "outputs": [{"name": "z"}]}, "output 'z': the model has no such output; it has 'y'"),
        (inputs(data=[[[[[[[[[[1.5, 2.5]]]]]]]]]]), "a tensor has at most 8 dimensions; the data is nested deeper"),
        (b'{"inputs": ' + b"[" * 100_000, "the body is n"),
    ],
)
def test_a_malformed_tensor_is_a_sentence(serve, body, said):
    server = serve(wanted=table())
    reply = server.post("/v2/models/m/infer", body)
    assert reply.status == 400
    assert reply.error.startswith(said)
    assert server.records() == []


def test_metadata_comes_from_the_signature(serve):
    server = serve({1: Fake(1), 2: Fake(2)}, table(routes=CANARY))
    assert server.get("/v2/models/m").json == {
        "name": "m",
        "versions": ["1", "2"],
        "platform": "sklearn_fake",
        "inputs": [
            {"name": "x", "datatype": "FP64", "shape": [-1, 1]},
            {"name": "n", "datatype": "INT64", "shape": [-1, 1]},
        ],
        "outputs": [{"name": SIGNATURE.output, "datatype": "FP64", "shape": [-1, 1]}],
    }
    assert server.get("/v2/models/m/versions/2").json["name"] == "m"
    assert server.get("/v2/models/m/ready").json == {"name": "m", "ready": True}
    assert server.get("/v2/models/m/versions/2/ready").json == {"name": "m", "ready": True}
    assert server.get("/v2/models/m/versions/3/ready").status == 404
    assert server.get("/v2/models").json == {"models": ["m"]}
    assert server.get("/v2").json["name"] == "trueline"
    assert server.get("/v2/health/live").json == {"live": True}
    assert server.get("/v2/health/ready").json == {"ready": True}


def test_a_shape_beyond_all_bounds_is_the_clients_mistake(serve):
    shape = json.dumps([10**3000, 10**3000])  # whose product cannot even be written
    body = b'{"inputs": [{"name": "x", "shape": %b, "datatype": "FP64", "data": [1]}]}' % shape.encode()
    reply = serve(wanted=table()).post("/v2/models/m/infer", body)
    assert (reply.status, "$.inputs[0].shape[0]" in reply.error) == (400, True)


@pytest.mark.parametrize("shape", [[1, 2, 1], [2], [1, 2]])
def test_a_row_of_all_columns_has_their_number_in_its_shape(serve, shape):
    one = {"name": "row", "shape": shape, "datatype": "FP64", "data": [2.5, 1]}
    assert serve(wanted=table()).post("/v2/models/m/infer", {"inputs": [one]}).json["outputs"][0]["data"] == [2.5]


def test_as_many_values_as_columns_in_another_shape_are_not_a_row(serve):
    inputs = tuple(Column(name, Kind.float64) for name in "abcd")
    model = Fake(1, lambda columns: np.array(columns["a"], dtype=float), Signature(inputs, "y", REGRESSION))
    matrix = {"name": "m", "shape": [2, 2], "datatype": "FP64", "data": [1, 2, 3, 4]}
    reply = serve({1: model}, table()).post("/v2/models/m/infer", {"inputs": [matrix]})
    assert reply.status == 400
    assert "expected shape [rows, 1], or one input of [rows, 4], got [2, 2]" in reply.error
