from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.domain import contracts
from trueline.domain.contracts import Column, Contract, Kind, Level, Role, UnknownColumns
from trueline.errors import InvalidData

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (Kind.integer, 3, None),
        (Kind.integer, 3.0, None),
        (Kind.integer, 3.5, "expected integer, got a fraction"),
        (Kind.integer, True, "expected integer, got boolean"),
        (Kind.integer, "3", "expected integer, got string"),
        (Kind.integer, NAN, "expected integer, got NaN"),
        (Kind.integer, INF, "expected integer, got infinity"),
        (Kind.integer, 2**63, "expected integer, got more than 64 bits"),
        (Kind.integer, -(2**63), None),
        (Kind.integer, 2.0**63, "expected integer, got more than 64 bits"),
        (Kind.float32, 1, None),
        (Kind.float32, 1e39, "expected float32, got a number too large for it"),
        (Kind.float64, 1e39, None),
        (Kind.float64, 10**400, "expected float64, got a number too large for it"),
        (Kind.float32, NAN, "expected float32, got NaN"),
        (Kind.float32, False, "expected float32, got boolean"),
        (Kind.float64, [1.0], "expected float64, got list"),
        (Kind.string, "a", None),
        (Kind.string, 1, "expected string, got integer"),
        (Kind.string, {}, "expected string, got object"),
        (Kind.boolean, True, None),
        (Kind.boolean, 1, "expected boolean, got integer"),
        (Kind.datetime, datetime(2026, 1, 1, tzinfo=UTC), None),
        (Kind.datetime, "2026-01-01T10:00:00Z", None),
        (Kind.datetime, "soon", "expected datetime, got text that is not an ISO 8601 time"),
        (Kind.datetime, 0, "expected datetime, got integer"),
        (Kind.string, None, "expected string, got null"),
    ],
)
def test_a_value_is_of_its_kind_or_is_told_what_it_is(kind, value, problem):
    assert contracts.compile_column(Column("x", kind))(value) == problem


@pytest.mark.parametrize("kind", list(Kind))
def test_null_is_accepted_where_the_contract_says_so(kind):
    assert contracts.compile_column(Column("x", kind, nullable=True))(None) is None


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_not_finite_counts_as_null_in_floats(value):
    assert contracts.compile_column(Column("x", Kind.float32, nullable=True, minimum=0, strict=True))(value) is None


def test_leaving_the_range_is_a_warning_and_an_error_in_a_strict_column():
    loose, strict = Column("x", Kind.integer, minimum=0, maximum=9), Column("y", Kind.integer, maximum=9, strict=True)
    found = Contract((loose, strict)).check_row({"x": -1, "y": 10})
    assert [(one.column, one.level, one.problem) for one in found] == [
        ("x", Level.warning, "expected at least 0, got -1"),
        ("y", Level.error, "expected at most 9, got 10"),
    ]


def test_an_unknown_category_is_shown_unless_it_is_personal():
    column = Column("tail", Kind.string, categories=("N1", "N2"))
    assert contracts.compile_doubts(column)("N3") == "expected one of 2 known categories, got 'N3'"
    private = Column("tail", Kind.string, categories=("N1", "N2"), personal=True)
    assert "N3" not in str(contracts.compile_doubts(private)("N3"))


def test_a_row_is_told_everything_that_is_wrong_with_it():
    contract = Contract((Column("a", Kind.integer), Column("b", Kind.string)), UnknownColumns.forbid)
    assert [str(one) for one in contract.check_row({"b": 2, "c": 1})] == [
        "column 'a': is missing",
        "column 'b': expected string, got integer",
        "column 'c': is not in the contract",
    ]


@pytest.mark.parametrize(("policy", "levels"), [("warn", [Level.warning]), ("forbid", [Level.error]), ("ignore", [])])
def test_unknown_columns_are_treated_as_declared(policy, levels):
    found = Contract((), UnknownColumns(policy)).check_row({"extra": 1})
    assert [one.level for one in found] == levels


def test_a_request_need_not_bring_the_target():
    contract = Contract((Column("x", Kind.integer), Column("y", Kind.integer, role=Role.target)))
    assert contract.check_row({"x": 1}, contracts.SERVED) == ()
    assert contract.target.name == "y"
    assert [column.name for column in contract.features] == ["x"]


def test_a_contract_is_asked_only_for_what_it_has():
    contract = Contract((Column("x", Kind.integer),))
    with pytest.raises(InvalidData, match="no column 'z'; it has x"):
        contract.column("z")
    with pytest.raises(InvalidData, match="has 0 columns of the role 'time'"):
        _ = contract.time
    with pytest.raises(InvalidData, match="names a column twice"):
        Contract((Column("x", Kind.integer), Column("x", Kind.string)))


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"kind": "integer"}, "needs a 'name'"),
        ({"name": "x"}, "kind is 'None'; expected one of integer, float32"),
        ({"name": "x", "kind": "integer", "nulable": True}, "unknown key 'nulable'"),
        ({"name": "x", "kind": "integer", "nullable": 1}, "nullable must be true or false"),
        ({"name": "x", "kind": "integer", "minimum": NAN}, "minimum must be a number"),
        ({"name": "x", "kind": "integer", "maximum": True}, "maximum must be a number"),
        ({"name": "x", "kind": "string", "categories": ["a", 1]}, "categories must be a list of texts"),
        ({"name": "x", "kind": "string", "minimum": 1}, "kind string has no minimum or maximum"),
        ({"name": "x", "kind": "integer", "categories": ["a"]}, "kind integer has no categories"),
        ({"name": "x", "kind": "string", "role": "label"}, "role is 'label'; expected one of feature"),
    ],
)
def test_a_column_that_is_none_is_refused_with_its_reason(plain, said):
    with pytest.raises(InvalidData, match=said):
        contracts.column_from_dict(plain)


@st.composite
def columns(draw: st.DrawFn) -> Column:
    kind, bounds = draw(st.sampled_from(Kind)), st.integers(-5, 5) | st.floats(allow_nan=False)
    low, high = sorted(draw(st.tuples(bounds, bounds)))
    return Column(
        name=draw(st.text()),
        kind=kind,
        nullable=draw(st.booleans()),
        minimum=low if kind in contracts.NUMBERS and draw(st.booleans()) else None,
        maximum=high if kind in contracts.NUMBERS and draw(st.booleans()) else None,
        categories=draw(st.none() | st.lists(st.text()).map(tuple)) if kind is Kind.string else None,
        unique=draw(st.booleans()),
        personal=draw(st.booleans()),
        role=draw(st.sampled_from(Role)),
        strict=draw(st.booleans()),
    )


@given(st.lists(columns(), unique_by=lambda column: column.name), st.sampled_from(UnknownColumns))
def test_a_contract_survives_being_written_as_plain_values(found, policy):
    contract = Contract(tuple(found), policy)
    assert contracts.from_dict(contracts.to_dict(contract)) == contract
