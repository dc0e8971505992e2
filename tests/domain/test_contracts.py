"""The contract's rules, value by value and row by row."""

import math
import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.domain import contracts
from trueline.domain.contracts import (
    FLOAT32_MAX,
    SERVED,
    Column,
    Contract,
    Kind,
    Level,
    Role,
    UnknownColumns,
    Violation,
    compile_column,
    compile_doubts,
)
from trueline.errors import InvalidData

FLIGHTS = Contract(
    (
        Column("flight", Kind.string, unique=True, role=Role.entity),
        Column("scheduled", Kind.datetime, role=Role.time),
        Column("carrier", Kind.string, categories=("AA", "UA")),
        Column("distance", Kind.float32, minimum=80, maximum=4983),
        Column("seats", Kind.integer, nullable=True),
        Column("air_time", Kind.float32, nullable=True, role=Role.target),
    )
)
GOOD = {
    "flight": "2013-01-01/UA-1",
    "scheduled": datetime(2013, 1, 1, 5, tzinfo=UTC),
    "carrier": "UA",
    "distance": 1400,
    "seats": None,
    "air_time": 227.0,
}


@pytest.mark.parametrize(
    ("kind", "value", "got"),
    [
        (Kind.integer, "3", "string"),
        (Kind.integer, True, "boolean"),
        (Kind.integer, 3.5, "a fraction"),
        (Kind.integer, 2**63, "more than 64 bits"),
        (Kind.integer, 2.0**63, "more than 64 bits"),
        (Kind.integer, math.inf, "infinity"),
        (Kind.float32, "3.5", "string"),
        (Kind.float32, True, "boolean"),
        (Kind.float32, 1e39, "a number too large for it"),
        (Kind.float64, 10**400, "a number too large for it"),
        (Kind.float64, math.nan, "NaN"),
        (Kind.float64, -math.inf, "infinity"),
        (Kind.float64, [1.0], "list"),
        (Kind.string, 3, "integer"),
        (Kind.string, {"a": 1}, "object"),
        (Kind.boolean, 1, "integer"),
        (Kind.datetime, 1357016400, "integer"),
        (Kind.datetime, "yesterday", "text that is not an ISO 8601 time"),
        (Kind.integer, None, "null"),
    ],
)
def test_a_value_of_another_kind_is_named_with_what_was_expected(kind, value, got):
    assert compile_column(Column("x", kind))(value) == f"expected {kind}, got {got}"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.integer, 3),
        (Kind.integer, 3.0),
        (Kind.integer, -(2**63)),
        (Kind.float32, 3),
        (Kind.float32, FLOAT32_MAX),
        (Kind.float64, 1e300),
        (Kind.string, ""),
        (Kind.boolean, False),
        (Kind.datetime, "2013-01-01T05:15:00Z"),
        (Kind.datetime, datetime(2013, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_value_of_the_kind_passes(kind, value):
    assert compile_column(Column("x", kind))(value) is None


@pytest.mark.parametrize("kind", [Kind.float32, Kind.float64])
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_finite_counts_as_null_in_a_float_column(kind, value):
    assert compile_column(Column("x", kind, nullable=True))(value) is None
    assert compile_column(Column("x", kind))(value) is not None
    assert compile_doubts(Column("x", kind, nullable=True, maximum=1.0))(value) is None


def test_leaving_the_range_or_the_categories_is_a_doubt_and_not_refused():
    low, carrier = Column("x", Kind.integer, minimum=1, maximum=5), Column("c", Kind.string, categories=("AA",))
    assert compile_column(low)(0) is None
    assert compile_doubts(low)(0) == "expected at least 1, got 0"
    assert compile_doubts(low)(1_000_000) == "expected at most 5, got 1000000"
    assert compile_doubts(carrier)("ZZ") == "expected one of 1 known categories, got 'ZZ'"
    assert compile_doubts(carrier)("AA") is None


def test_a_strict_column_refuses_what_others_only_doubt():
    strict = Column("x", Kind.integer, maximum=5, strict=True)
    assert compile_column(strict)(6) == "expected at most 5, got 6"
    assert compile_doubts(strict)(6) is None


def test_a_personal_value_is_never_shown():
    assert "N14228" not in str(compile_doubts(Column("tail", Kind.string, categories=("N1",), personal=True))("N14228"))


def test_a_long_value_is_shown_in_part():
    told = compile_doubts(Column("c", Kind.string, categories=("AA",)))("x" * 10_000)
    assert told is not None
    assert len(told) < 120


def test_a_good_row_has_no_violations():
    assert FLIGHTS.check_row(GOOD) == ()


def test_violations_come_in_the_contracts_order_with_their_level():
    row = {**GOOD, "carrier": "ZZ", "distance": "far", "weather": "snow"}
    del row["flight"]
    assert FLIGHTS.check_row(row) == (
        Violation("flight", Level.error, "is missing"),
        Violation("carrier", Level.warning, "expected one of 2 known categories, got 'ZZ'"),
        Violation("distance", Level.error, "expected float32, got string"),
        Violation("weather", Level.warning, "is not in the contract"),
    )
    assert str(FLIGHTS.check_row(row)[2]) == "column 'distance': expected float32, got string"


def test_a_request_need_not_bring_the_target_and_may_bring_time_and_entity():
    features = {name: GOOD[name] for name in ("carrier", "distance", "seats")}
    assert FLIGHTS.check_row(features, SERVED) == ()
    assert FLIGHTS.check_row({**features, "scheduled": "not looked at"}, SERVED) == ()


@pytest.mark.parametrize(
    ("policy", "levels"),
    [(UnknownColumns.warn, [Level.warning]), (UnknownColumns.forbid, [Level.error]), (UnknownColumns.ignore, [])],
)
def test_unknown_columns_are_treated_as_declared(policy, levels):
    contract = Contract(FLIGHTS.columns, policy)
    assert [violation.level for violation in contract.check_names(["carrier", "weather"])] == levels


def test_columns_are_found_by_name_and_by_role():
    assert FLIGHTS.column("seats").nullable
    assert [column.name for column in FLIGHTS.features] == ["carrier", "distance", "seats"]
    assert (FLIGHTS.entity.name, FLIGHTS.time.name, FLIGHTS.target.name) == ("flight", "scheduled", "air_time")
    assert "carrier" in FLIGHTS
    with pytest.raises(InvalidData, match="no column 'weather'; it has flight, scheduled"):
        FLIGHTS.column("weather")
    with pytest.raises(InvalidData, match="0 columns of the role 'target'; it needs exactly one"):
        _ = Contract(FLIGHTS.features).target


def test_a_contract_that_has_checked_rows_can_be_sent_to_another_process():
    FLIGHTS.check_row(GOOD)
    assert pickle.loads(pickle.dumps(FLIGHTS)) == FLIGHTS  # noqa: S301 our own bytes


def test_a_column_named_twice_is_refused():
    with pytest.raises(InvalidData, match="names a column twice"):
        Contract((Column("x", Kind.integer), Column("x", Kind.string)))


columns = st.builds(
    Column,
    name=st.text(min_size=1),
    kind=st.sampled_from(Kind),
    nullable=st.booleans(),
    unique=st.booleans(),
    personal=st.booleans(),
    role=st.sampled_from(Role),
    strict=st.booleans(),
)
bounded = st.builds(
    lambda name, low, width: Column(name, Kind.float64, minimum=low, maximum=low + width),
    st.text(min_size=1),
    st.floats(-1e9, 1e9),
    st.floats(0, 1e9),
)
grouped = st.builds(
    Column, name=st.text(min_size=1), kind=st.just(Kind.string), categories=st.lists(st.text()).map(tuple)
)


@given(
    st.builds(
        Contract,
        st.lists(columns | bounded | grouped, unique_by=lambda column: column.name).map(tuple),
        st.sampled_from(UnknownColumns),
    )
)
def test_a_contract_survives_its_plain_form(contract):
    assert contracts.from_dict(contracts.to_dict(contract)) == contract


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({}, "needs a list 'columns'"),
        ({"columns": [], "unknown_columns": "maybe"}, "unknown_columns is 'maybe'; expected one of warn, forbid"),
        ({"columns": ["age"]}, "needs a 'name' that is text"),
        ({"columns": [{"name": "age"}]}, "'age': kind is 'None'; expected one of integer, float32"),
        ({"columns": [{"name": "age", "kind": "int"}]}, "'age': kind is 'int'; expected one of integer, float32"),
        ({"columns": [{"name": "age", "kind": "integer", "max": 3}]}, "unknown key 'max'; known are name, kind"),
        ({"columns": [{"name": "age", "kind": "integer", "maximum": "3"}]}, "maximum must be a number"),
        ({"columns": [{"name": "age", "kind": "integer", "nullable": "no"}]}, "nullable must be true or false"),
        ({"columns": [{"name": "age", "kind": "string", "categories": "AA"}]}, "categories must be a list of texts"),
        (
            {"columns": [{"name": "age", "kind": "integer", "role": "label"}]},
            "role is 'label'; expected one of feature",
        ),
        ({"columns": [{"name": "age", "kind": "string", "minimum": 3}]}, "kind string has no minimum or maximum"),
        ({"columns": [{"name": "age", "kind": "integer", "categories": []}]}, "kind integer has no categories"),
        ({"columns": [{"name": "age", "kind": "integer", "minimum": 3, "maximum": 2}]}, "3 is above the maximum 2"),
    ],
)
def test_what_is_not_a_contract_is_told_in_one_sentence(plain, said):
    with pytest.raises(InvalidData, match=said):
        contracts.from_dict(plain)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(columns | bounded | grouped, json_values)
def test_any_value_is_judged_and_never_raises(column, value):
    refused = compile_column(column)(value)
    assert refused is None or refused.startswith("expected ")
    if refused is None:
        doubted = compile_doubts(column)(value)
        assert doubted is None or doubted.startswith("expected ")


@given(json_values)
def test_any_plain_value_is_a_contract_or_refused(plain):
    for form in (plain, {"columns": [plain]}, {"columns": [{"name": "x", "kind": plain, "role": plain}]}):
        with pytest.raises(InvalidData):
            contracts.from_dict(form)
