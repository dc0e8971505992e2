"""What `plain` lets pass is right by the contract's own rules, and says the same; what is plainly right it lets pass."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_world import Fake, table

from trueline.domain.contracts import Column, Kind
from trueline.packaging.signature import REGRESSION, Signature
from trueline.serving import plain, predict
from trueline.serving.checks import Checks

COLUMNS = (
    Column("a b", Kind.float32, nullable=True, minimum=-5.0, maximum=5.0),
    Column("größe", Kind.float64),
    Column("n", Kind.integer, minimum=-3, maximum=3),
    Column("m", Kind.integer, nullable=True),
    Column("plan", Kind.string, categories=("x", "y")),
    Column("free", Kind.string, nullable=True),
    Column("yes", Kind.boolean),
    Column("strict", Kind.float32, maximum=1.0, strict=True),
)
RIGHT = {"a b": 1.5, "größe": 1e300, "n": -3, "m": 2**63 - 1, "plan": "y", "free": "", "yes": True, "strict": 1.0}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-4, 4),
    st.integers(-(2**70), 2**70),
    st.floats(-6, 6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["x", "y", "z", "", "1.0"]),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=1),
)
ROWS = st.dictionaries(st.sampled_from([*RIGHT, "other"]), VALUES, max_size=3).map(lambda some: {**RIGHT, **some})


def judged():
    found = plain.of(COLUMNS)
    assert found is not None
    return found


@given(st.lists(ROWS, min_size=1, max_size=3), st.booleans())
def test_what_is_plain_breaks_no_rule_raises_no_doubt_and_says_the_same(rows, alone):
    body = json.dumps(rows[0] if alone else {"instances": rows}, separators=(",", ":")).encode()
    decoded = judged().decode(body)
    if decoded is None:
        return
    call = predict.decode(body)
    assert Checks(COLUMNS).check(call.columns, call.rows) == []
    assert judged().columns(decoded) == call.columns  # 1.0 is 1
    assert [judged().value(row, "n") for row in decoded] == call.columns["n"]


@given(
    st.fixed_dictionaries(
        {
            "a b": st.none() | st.floats(-5, 5) | st.integers(-5, 5),
            "größe": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60),
            "n": st.integers(-3, 3),
            "m": st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
            "plan": st.sampled_from(["x", "y"]),
            "free": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
            "yes": st.booleans(),
            "strict": st.floats(-3e38, 1.0),
        }
    )
)
def test_what_is_plainly_right_passes(row):
    decoded = judged().decode(json.dumps(row).encode())
    assert decoded is not None
    assert judged().of_values([[row[column.name] for column in COLUMNS]]) == decoded


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"[" * 100_000,
        b'{"instances":[]}',
        b'{"instances":{}}',
        json.dumps({**RIGHT, "other": 1}).encode(),
        json.dumps({name: value for name, value in RIGHT.items() if name != "n"}).encode(),
        json.dumps({**RIGHT, "plan": "z"}).encode(),
        json.dumps(RIGHT).replace("1.5", "1e400").encode(),
        json.dumps(RIGHT).replace("1.5", "NaN").encode(),
        json.dumps(RIGHT).encode() + b"x",
        json.dumps(RIGHT).encode("utf-16"),
    ],
)
def test_anything_else_gets_a_closer_look(body):
    assert judged().decode(body) is None


@pytest.mark.parametrize(
    "column",
    [
        Column("at", Kind.datetime),
        Column("instances", Kind.float64),
        Column("plan", Kind.string, categories=()),
        Column("plan", Kind.string, categories=tuple(map(str, range(20_000)))),
    ],
)
def test_columns_whose_rows_always_need_a_closer_look(column):
    assert plain.of((column,)) is None


def test_equal_columns_share_one_judge():
    assert plain.of(COLUMNS) is plain.of(tuple(COLUMNS))


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_columns_whose_names_have_to_be_escaped_are_served_with_a_closer_look(serve, name):
    column = Column(name, Kind.float64)
    assert plain.of((column,)) is None
    model = Fake(1, lambda columns: np.array(columns[name], dtype=float), Signature((column,), "y", REGRESSION))
    assert serve({1: model}, table()).post("/predict", {name: 2.5}).json["predictions"] == [2.5]
