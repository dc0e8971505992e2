"""MLflow's scoring protocol: every form of a frame, the same sentences, and nothing converted in silence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_world import SIGNATURE, Fake, table

from trueline.domain.contracts import Column, Kind
from trueline.errors import TruelineError
from trueline.journal.records import PredictionRecord
from trueline.packaging.signature import REGRESSION, Signature
from trueline.serving import invocations

ROWS = [{"x": 1.5, "n": 1}, {"x": 2.5, "n": None}]
COLUMNS = {"x": [1.5, 2.5], "n": [1, None]}
FORMS = [
    {"dataframe_split": {"columns": ["n", "x"], "data": [[1, 1.5], [None, 2.5]], "index": [0, 1]}},
    {"dataframe_records": ROWS},
    {"dataframe_records": [{"x": 1.5, "n": 1}, {"x": 2.5}]},
    {"instances": ROWS},
    {"instances": [[1.5, 1], [2.5, None]]},
    {"inputs": COLUMNS},
    {"inputs": {"x": [[1.5], [2.5]], "n": [[1], [None]]}},
    {"inputs": ROWS},
    {"inputs": [[1.5, 1], [2.5, None]]},
    {"inputs": COLUMNS, "params": {"threshold": 0.5}},
]


@pytest.mark.parametrize("body", FORMS, ids=lambda body: json.dumps(body)[:50])
def test_every_form_of_a_frame_means_the_same(serve, body):
    server = serve(wanted=table())
    reply = server.post("/invocations", body)
    assert (reply.status, reply.json) == (200, {"predictions": [1.5, 2.5]})
    (record,) = server.records(PredictionRecord)
    assert record.features == COLUMNS
    assert reply.headers["trueline-request-id"] == record.request_id


def csv(text, kind="text/csv"):
    return text.encode(), {"Content-Type": kind}


@pytest.mark.parametrize(
    "body",
    [
        "x,n\n1.5,1\n2.5,\n",
        "n,x\r\n1,1.5\r\nNaN,2.5\r\n",
        '"n","x"\n"1.0","1.5"\n\n"null","2.5"',
        "\ufeffx,n\n1.5,1\n2.5,<NA>",
    ],
)
def test_csv_is_read_as_the_contract_says(serve, body):
    server = serve(wanted=table())
    reply = server.post("/invocations", *csv(body, "text/csv; charset=utf-8"))
    assert (reply.status, reply.json) == (200, {"predictions": [1.5, 2.5]})
    (record,) = server.records(PredictionRecord)
    assert record.features == COLUMNS


def test_csv_keeps_text_as_it_is_and_knows_the_booleans():
    inputs = (Column("s", Kind.string, nullable=True), Column("b", Kind.boolean), Column("t", Kind.datetime))
    body = b's,b,t,more\nNA,True,2026-01-01,7\n"a,""b""\n",FALSE,2026-01-02,\n,false,2026-01-03,x\n'
    call = invocations.decode(body, b"text/csv", Signature(inputs, "y", REGRESSION))
    assert call.rows == 3
    assert call.columns == {
        "s": ["NA", 'a,"b"\n', None],
        "b": [True, False, False],
        "t": ["2026-01-01", "2026-01-02", "2026-01-03"],
        "more": ["7", None, "x"],
    }


def test_a_frame_with_nan_is_taken_as_mlflows_client_writes_it(serve):
    server = serve(wanted=table())
    body = b'{"dataframe_split": {"columns": ["x", "n"], "data": [[1.5, NaN], [-Infinity, 1]]}}'
    reply = server.post("/invocations", body)
    assert (reply.status, reply.json["message"]) == (400, "input 'x': expected float64, got null at row 1")
    assert server.post("/invocations", body.replace(b"-Infinity", b"2.5")).json == {"predictions": [1.5, 2.5]}


MISTAKES = [
    (
        [],
        "expected a JSON object with exactly one of dataframe_split, dataframe_records, instances, inputs; got none of them",
    ),
    (
        {"columns": ["x"], "data": [[1]]},
        "expected a JSON object with exactly one of dataframe_split, dataframe_records",
    ),
    (
        {"inputs": [], "instances": []},
        "expected a JSON object with exactly one of dataframe_split, dataframe_records, instances, inputs; got instances and inputs",
    ),
    ({"dataframe_split": [[1, 2]]}, "dataframe_split must be an object with 'columns', a list of names, and 'data'"),
    (
        {"dataframe_split": {"columns": [1], "data": [[1]]}},
        "dataframe_split must be an object with 'columns', a list of names",
    ),
    ({"dataframe_split": {"columns": ["x", "x"], "data": [[1, 2]]}}, "input 'x': is given twice"),
    ({"dataframe_split": {"columns": [], "data": [[]]}}, "dataframe_split has no columns"),
    ({"dataframe_split": {"columns": ["x", "n"]}}, "dataframe_split.data must be a list of at least one row"),
    (
        {"dataframe_split": {"columns": ["x", "n"], "data": [[1]]}},
        "dataframe_split.data: expected 2 values (x, n), got 1 at row 0",
    ),
    (
        {"dataframe_split": {"columns": ["x", "n"], "data": [[1, 2], 3]}},
        "dataframe_split.data: expected a list of 2 values at row 1",
    ),
    ({"dataframe_records": []}, "dataframe_records must be a list of at least one row"),
    ({"dataframe_records": [{"x": 1}, 2]}, "dataframe_records: expected an object of columns at row 1"),
    ({"dataframe_records": [{"x": 1, "n": 1}, {"n": 1}]}, "input 'x': expected float64, got null at row 1"),
    ({"instances": 3}, "instances must be a list of rows"),
    ({"instances": []}, "instances has no rows; send at least one"),
    ({"instances": [[1, 2, 3]]}, "instances: expected 2 values (x, n), got 3 at row 0"),
    ({"inputs": {}}, "inputs has no columns"),
    ({"inputs": {"x": []}}, "inputs has no rows; send at least one"),
    ({"inputs": {"x": [1], "n": 1}}, "input 'n': expected a list of values, as other inputs have"),
    ({"inputs": {"x": [1, 2], "n": [1]}}, "input 'n': expected 2 rows, got 1"),
    ({"inputs": {"x": [[1, 2]], "n": [1]}}, "input 'x': expected float64, got list at row 0"),
    ({"inputs": {"x": ["a"], "n": [1]}}, "input 'x': expected float64, got string at row 0"),
    (b"", "the body is not valid JSON: it is empty"),
    (b"[" * 100_000 + b"NaN", "the body is nested too deeply"),
]


@pytest.mark.parametrize(("body", "said"), MISTAKES)
def test_a_mistake_is_a_sentence_in_mlflows_form(serve, body, said):
    server = serve(wanted=table())
    reply = server.post("/invocations", body)
    assert (reply.status, reply.json["error_code"]) == (400, "BAD_REQUEST")
    assert reply.json["message"].startswith(said)
    assert server.records() == []
    assert server.metric('trueline_inference_requests_total{model="m",version="",role="",code="400"}') == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the body is empty; expected a line of column names and one line for each row"),
        ("x,n\n", "the body has no rows after its first line; send at least one"),
        ("x,n\n1,2,3\n", "expected 2 fields, as the first line has, got 3 at row 0"),
        ("x,x\n1,2\n", "a column name appears twice in the first line: x, x"),
        ("x,n\n1,a\n", "input 'n': expected integer, got string at row 0"),
        ("x,n\n1,1.5\n", "input 'n': expected integer, got a fraction at row 0"),
        ("x,n\nnan,1\n", "input 'x': expected float64, got null at row 0"),
        ("x,n\n1e999,1\n", "input 'x': expected float64, got infinity at row 0"),
        ('x,n\n"1,1\n', "the body is not CSV: unexpected end of data"),
        (b"x,n\n1,\xff\n", "the body is not CSV in UTF-8: invalid start byte at byte 6"),
    ],
)
def test_csv_that_is_none_is_a_sentence(serve, text, said):
    body = text if isinstance(text, bytes) else text.encode()
    reply = serve(wanted=table()).post("/invocations", body, {"Content-Type": "text/csv"})
    assert (reply.status, reply.json["message"]) == (400, said)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=UTF-8", 200),
        ("application/json; format=pandas-split", 415),
        ("application/json; charset=latin-1", 415),
        ("application/vnd.apache.parquet", 415),
        ("text/plain", 415),
    ],
)
def test_other_media_are_refused(serve, kind, status):
    reply = serve(wanted=table()).post("/invocations", {"dataframe_records": ROWS}, {"Content-Type": kind})
    assert reply.status == status
    assert status == 200 or reply.json["error_code"] == "BAD_REQUEST"


def test_other_refusals_have_mlflows_codes_too(serve):
    def refuse(_):
        raise ValueError("I will not")

    server = serve({1: Fake(1, refuse)})
    reply = server.post("/invocations", {"dataframe_records": ROWS})
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert reply.json["error_code"] == "TEMPORARILY_UNAVAILABLE"
    server.put(table())
    reply = server.post("/invocations", {"dataframe_records": ROWS})
    assert (reply.status, reply.json["error_code"]) == (500, "INTERNAL_ERROR")
    assert "ValueError: I will not" in reply.json["message"]


def test_ping_health_and_version_are_mlflows(serve):
    server = serve()
    assert server.get("/ping").status == server.get("/health").status == 503
    server.put(table())
    for path in ("/ping", "/health"):
        assert (server.get(path).status, server.get(path).body) == (200, b"\n")
    assert server.get("/version").body.decode().count(".") >= 1


def test_one_column_may_come_as_bare_values(serve):
    one = replace(SIGNATURE, inputs=SIGNATURE.inputs[:1])
    server = serve({1: Fake(1, signature=one)}, table())
    for body in ({"inputs": [1.5, 2.5]}, {"instances": [[1.5], [2.5]]}, {"inputs": {"x": [1.5, 2.5]}}):
        assert server.post("/invocations", body).json == {"predictions": [1.5, 2.5]}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "n", "columns", "data", ""]), inner, max_size=3)
    ),
    max_leaves=10,
)
BODIES = JSON_VALUES | st.dictionaries(
    st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs", "params"]),
    JSON_VALUES,
    min_size=1,
    max_size=2,
)


@settings(max_examples=150, deadline=None)
@given(
    st.binary() | BODIES | st.text(alphabet='xn,"\r\n1.eNa;'),
    st.sampled_from([b"application/json", b"text/csv", b"", b"x/y;=;\xff"]),
)
def test_any_body_is_a_call_or_one_sentence(given_body, kind):
    body = (
        given_body.encode()
        if isinstance(given_body, str)
        else given_body
        if isinstance(given_body, bytes)
        else json.dumps(given_body).encode()
    )
    refused = None
    try:
        call = invocations.decode(body, kind, SIGNATURE)
    except TruelineError as problem:
        refused = problem
    if refused is None:
        assert call.rows >= 1
    else:
        assert refused.status in (400, 415)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (rb'{"inputs": {"x": [1.0], "n": [NaN], "s": ["\ud800"]}}', "surrogates not allowed"),
        (rb'{"inputs": {"x": [1.0], "n": [NaN], "\uD800": ["a"]}}', "surrogates not allowed"),
        (rb'{"inputs": {"x": [1.0], "n": [NaN], "s": [1e400]}}', "1e400 is out of range"),
    ],
)
def test_beside_a_nan_nothing_passes_that_would_not_pass_without_it(serve, body, why):
    server = serve(wanted=table())
    reply = server.post("/invocations", body)
    assert reply.status == 400
    assert why in reply.json["message"]
    assert server.records() == []


@pytest.mark.parametrize("text", ["1_000", "１２"])
def test_numbers_of_csv_are_those_of_csv_and_not_of_python(serve, text):
    reply = serve(wanted=table()).post("/invocations", f"x,n\n{text},1\n".encode(), {"Content-Type": "text/csv"})
    assert (reply.status, reply.json["message"]) == (400, "input 'x': expected float64, got string at row 0")
