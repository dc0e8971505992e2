"""Serving's short cuts never disagree with the contract's rules."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.domain.contracts import Column, Kind, compile_column, compile_doubts
from trueline.errors import InvalidInput
from trueline.serving.checks import Checks

BOUND = st.none() | st.floats(-100, 100) | st.integers(-100, 100)
COLUMNS = st.builds(
    Column,
    name=st.just("c"),
    kind=st.sampled_from(Kind),
    nullable=st.booleans(),
    minimum=BOUND,
    maximum=BOUND,
    categories=st.none() | st.lists(st.sampled_from("abc"), max_size=3, unique=True).map(tuple),
    strict=st.booleans(),
)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-200, 200)
    | st.floats()
    | st.floats(-200, 200)
    | st.sampled_from([2**63 - 1, 2**63, -(2**63), 3.4028235e38, 3.5e38, 1e308, 3.0, -0.0, math.nan, math.inf])
    | st.sampled_from(["a", "d", "", "2013-01-01", "2013-01-01T00:00:00Z", "x"])
    | st.lists(st.integers(), max_size=1)
    | st.dictionaries(st.text(max_size=1), st.none(), max_size=1)
)


@given(COLUMNS, st.lists(VALUES, min_size=1, max_size=4))
def test_a_column_is_refused_and_doubted_exactly_as_the_contract_says(column, values):
    refused = [compile_column(column)(value) for value in values]
    problem = next((f"input 'c': {said} at row {row}" for row, said in enumerate(refused) if said), None)
    if problem is not None:
        with pytest.raises(InvalidInput) as caught:
            Checks([column]).check({"c": values}, len(values))
        assert str(caught.value) == problem
    else:
        doubted = any(compile_doubts(column)(value) for value in values)
        assert Checks([column]).check({"c": values}, len(values)) == (["c"] if doubted else [])


def test_a_missing_column_is_named():
    with pytest.raises(InvalidInput, match="input 'b' is missing"):
        Checks([Column("a", Kind.integer), Column("b", Kind.string)]).check({"a": [1]}, 1)


def test_columns_of_different_length_are_named():
    with pytest.raises(InvalidInput, match="input 'b': expected 2 rows, got 1"):
        Checks([Column("a", Kind.integer), Column("b", Kind.string)]).check({"a": [1, 2], "b": ["x"]}, 2)


@pytest.mark.parametrize(
    ("value", "said"), [([1], "a list or an object"), ({}, "a list or an object"), (2**63, "at most 64 bits")]
)
def test_what_the_model_does_not_read_must_still_be_plain(value, said):
    checks = Checks([Column("a", Kind.integer)])
    assert checks.check({"a": [1], "flight": ["UA 12"], "gate": [None]}, 1) == []
    with pytest.raises(InvalidInput, match=f"input 'extra': expected .*{said.split()[-1]}"):
        checks.check({"a": [1], "extra": [value]}, 1)


@pytest.mark.parametrize("kind", [Kind.float32, Kind.float64])
def test_an_integer_too_long_for_the_journal_becomes_the_float_it_stands_for(kind):
    values = [10**20, -(2**63) - 1, 2**63 - 1, 7, -(2**63)]
    assert Checks([Column("c", kind)]).check({"c": values}, 5) == []
    assert [type(value) for value in values] == [float, float, int, int, int]
    assert values[:2] == [1e20, -(2.0**63)]
