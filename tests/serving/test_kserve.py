"""KServe's first protocol."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_world import SIGNATURE, table

from trueline.errors import TruelineError
from trueline.journal.records import PredictionRecord
from trueline.serving import kserve

PREDICT = "/v1/models/m:predict"


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"x": 1.5, "n": 1}, {"x": 2.5}]},
        {"instances": [[1.5, 1], [2.5, None]]},
        {"inputs": [[1.5, 1], [2.5, None]]},
        {"instances": [{"x": 1.5, "n": 1}, {"x": 2.5, "n": None}], "signature_name": "serving_default"},
    ],
)
def test_rows_by_name_or_by_place(serve, body):
    server = serve(wanted=table())
    reply = server.post(PREDICT, body)
    assert (reply.status, reply.json) == (200, {"predictions": [1.5, 2.5]})
    (record,) = server.records(PredictionRecord)
    assert record.features == {"x": [1.5, 2.5], "n": [1, None]}


def test_the_models_and_whether_they_answer(serve):
    server = serve()
    assert server.get("/v1/models").json == {"models": []}
    server.put(table())
    assert server.get("/v1/models").json == {"models": ["m"]}
    assert server.get("/v1/models/m").json == {"name": "m", "ready": True}
    assert server.get("/").json == {"status": "alive"}


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (
            "/v1/models/other:predict",
            {"instances": [[1, 2]]},
            404,
            "no model 'other' is served here; this server has 'm'",
        ),
        (
            "/v1/models/m:explain",
            {"instances": [[1, 2]]},
            501,
            "'m' has no explainer; predictions are at /v1/models/m:predict",
        ),
        ("/v1/models/m:dream", {}, 405, "/v1/models/m:dream takes GET, HEAD, not POST"),
        (PREDICT, {}, 400, 'expected an object with a list of rows: {"instances": [row, …]}'),
        (PREDICT, [1], 400, 'expected an object with a list of rows: {"instances": [row, …]}'),
        (PREDICT, {"instances": []}, 400, "instances has no rows; send at least one"),
        (PREDICT, {"instances": {"x": 1}}, 400, "instances must be a list of rows"),
        (PREDICT, {"instances": [[1]]}, 400, "instances: expected 2 values (x, n), got 1 at row 0"),
        (PREDICT, {"instances": [{"x": "a", "n": 1}]}, 400, "input 'x': expected float64, got string at row 0"),
    ],
)
def test_a_mistake_is_a_sentence(serve, path, body, status, said):
    server = serve(wanted=table())
    reply = server.post(path, body)
    assert (reply.status, reply.error) == (status, said)
    assert server.records() == []


def test_other_media_are_refused(serve):
    assert serve(wanted=table()).post(PREDICT, b"x,n\n1,2\n", {"Content-Type": "text/csv"}).status == 415


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "n", "instances", "inputs"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(st.binary() | VALUES | st.fixed_dictionaries({"instances": VALUES}))
def test_any_body_is_a_call_or_one_sentence(given_body):
    body = given_body if isinstance(given_body, bytes) else json.dumps(given_body).encode()
    refused = None
    try:
        call = kserve.decode(body, SIGNATURE)
    except TruelineError as problem:
        refused = problem
    assert refused.status == 400 if refused is not None else call.rows >= 1
