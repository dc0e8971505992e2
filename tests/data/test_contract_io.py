from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueline.data import contract_frames, contract_io
from trueline.data.contract_infer import needs_float64
from trueline.data.timestamps import TIMESTAMP
from trueline.domain.contracts import NUMBERS, Column, Contract, Kind, Level, Role, UnknownColumns
from trueline.errors import InvalidData

START = datetime(2026, 1, 1, tzinfo=UTC)


def flights(rows: int = 60) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "scheduled": pl.Series([START + timedelta(hours=hour) for hour in range(rows)]).cast(TIMESTAMP),
            "flight": [f"F{number}" for number in range(rows)],
            "carrier": ["AA", "B6", None] * (rows // 3),
            "distance": [0.1 * number for number in range(rows)],
            "seats": list(range(rows)),
            "tail": ["N1", "N2"] * (rows // 2),
            "late": [True, False] * (rows // 2),
        }
    )


def contract_of(frame: pl.DataFrame, **changed) -> Contract:
    facts = {"target": "late", "time": "scheduled", "entity": "flight", "personal": ["tail"], "unknown_columns": "warn"}
    return contract_io.infer(frame, **{**facts, **changed})


def test_a_contract_says_what_was_seen():
    by_name = {column.name: column for column in contract_of(flights()).columns}
    assert by_name["scheduled"] == Column("scheduled", Kind.datetime, role=Role.time)
    assert by_name["flight"] == Column("flight", Kind.string, unique=True, role=Role.entity)
    assert by_name["carrier"] == Column("carrier", Kind.string, nullable=True, categories=("AA", "B6"))
    assert by_name["seats"] == Column("seats", Kind.integer, minimum=0, maximum=59)
    assert by_name["late"] == Column("late", Kind.boolean, nullable=True, role=Role.target)


def test_nothing_personal_goes_into_the_contract():
    assert contract_of(flights()).column("tail") == Column("tail", Kind.string, personal=True)


def test_free_text_has_no_categories():
    frame = pl.DataFrame({"note": [str(number % 51) for number in range(200)], "y": [1.0] * 200})
    contract = contract_io.infer(frame, target="y")
    assert contract.column("note").categories is None


def test_an_entity_that_comes_twice_is_not_unique():
    assert not contract_of(pl.concat([flights(), flights()])).entity.unique


def test_nan_is_no_value():
    column = contract_io.infer(pl.DataFrame({"x": [1.0, float("nan")], "y": [1, 2]}), target="y").column("x")
    assert (column.nullable, column.minimum, column.maximum) == (True, 1.0, 1.0)


@pytest.mark.parametrize(
    ("values", "needed"),
    [
        ([0.1, 0.2, 0.7], False),
        ([52.123456, 52.223456], False),
        ([1e-3] * 5, False),
        ([1.7e9 + 1, 1.7e9 + 2], True),
        ([16_777_217.0, 0.0], True),
        ([1e40, 1.0], True),
        ([1e-46, 2e-46], True),
        ([None, float("nan")], False),
    ],
)
def test_floats_are_float32_unless_that_loses_something(values, needed):
    assert needs_float64(pl.Series(values, dtype=pl.Float64)) is needed


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"target": "lat"},
            r"no column 'lat' \(the target named in trueline\.yaml\); did you mean 'late'\? it has sched",
        ),
        ({"time": "when"}, r"no column 'when' \(the time named in trueline\.yaml\); it has scheduled, flight"),
        ({"entity": "flihgt"}, r"did you mean 'flight'\?"),
        ({"personal": ["tial"]}, r"no column 'tial' \(named in contract\.personal\); did you mean 'tail'"),
        ({"time": "carrier"}, r"the time column 'carrier' holds String \(such as 'AA'\)"),
        ({"entity": "late"}, r"'late' is named as both target and entity"),
    ],
)
def test_a_project_that_names_other_columns_than_the_data_has_is_told(changed, said):
    with pytest.raises(InvalidData, match=said):
        contract_of(flights(), **changed)


def test_a_column_no_contract_can_describe_is_refused():
    with pytest.raises(InvalidData, match="column 'x' holds List"):
        contract_io.infer(pl.DataFrame({"x": [[1]], "y": [1]}), target="y")
    with pytest.raises(InvalidData, match="a name trueline uses itself"):
        contract_io.infer(pl.DataFrame({"_origin": [1], "y": [1]}), target="y")


def test_the_data_a_contract_was_read_off_satisfies_it():
    frame = flights()
    contract = contract_of(frame)
    enforced = contract_frames.enforce(frame, contract)
    assert enforced.warnings == {}
    assert contract_frames.violations(enforced.frame, contract).is_empty()  # also after float32


NAMES = st.text(st.characters(codec="utf-8"), max_size=12)


@st.composite
def columns(draw: st.DrawFn) -> Column:
    kind = draw(st.sampled_from(Kind))
    bounds = st.none() | st.integers() | st.floats(allow_nan=False)
    return Column(
        draw(NAMES),
        kind,
        nullable=draw(st.booleans()),
        minimum=draw(bounds) if kind in NUMBERS else None,
        categories=draw(st.none() | st.lists(NAMES, max_size=30).map(tuple)) if kind is Kind.string else None,
        personal=draw(st.booleans()),
        role=draw(st.sampled_from(Role)),
    )


@given(
    st.lists(columns(), min_size=1, max_size=4, unique_by=lambda column: column.name),
    st.sampled_from(UnknownColumns),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
def test_a_written_contract_reads_back_as_it_was(tmp_path, written, policy):
    contract = Contract(tuple(written), policy)
    contract_io.write(tmp_path / "contract.yaml", contract)
    assert contract_io.read(tmp_path / "contract.yaml") == contract


def test_a_written_contract_can_be_reviewed(tmp_path):
    path = tmp_path / "contract.yaml"
    contract_io.write(path, contract_of(flights()))
    text = path.read_text()
    assert text.startswith("# What the rows of this project's data hold")
    assert "- name: carrier\n  kind: string\n  nullable: true\n  categories: [AA, B6]\n" in text
    assert [file.name for file in tmp_path.iterdir()] == ["contract.yaml"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"contract\.yaml: a contract needs a list 'columns'"),
        ("columns: [", r"contract\.yaml:1:11: "),
        ("columns:\n- name: x\n  kind: flot\n", r":3:9: contract column 'x': kind is 'flot'; expected one of integer"),
        ("columns:\n- name: x\n  kind: string\n  nulable: true\n", r":4:3: contract column 'x' has the unknown key"),
        ("columns:\n- kind: string\n", r":2:9: a contract column needs a 'name'"),
        ("columns:\n- name: x\n", r":2:3: contract column 'x': kind is 'None'"),
        ("columns:\n- x\n", r":2:3: a contract column needs a 'name'"),
        ("columns:\n- {name: x, kind: string}\n- {name: x, kind: string}\n", r":3:3: column 'x' is already described"),
        ("columns:\n- {name: x, name: y, kind: string}\n", r":2:13: 'name' stands here twice"),
        ("columns:\n- {name: x, kind: string, categories: [a, 1]}\n", r":2:27: .*categories must be a list of texts"),
        ("columns: []\n", r":1:10: a contract needs a list"),
        ("colums: []\n", r":1:1: unknown key 'colums'"),
        ("unknown_columns: drop\ncolumns:\n- {name: x, kind: string}\n", r":1:18: .*unknown_columns is 'drop'"),
        ("columns:\n- {name: !!python/name:os.system '', kind: string}\n", r":2:10: this value cannot be read"),
    ],
)
def test_what_is_wrong_in_a_contract_is_told_with_its_place(tmp_path, text, said):
    path = tmp_path / "contract.yaml"
    path.write_text(text)
    with pytest.raises(InvalidData, match=said):
        contract_io.read(path)


def test_a_contract_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InvalidData, match="cannot be read"):
        contract_io.read(tmp_path / "contract.yaml")


def test_a_folder_in_the_contracts_place_is_one_sentence(tmp_path):
    path = tmp_path / "contract.yaml"
    path.mkdir()
    with pytest.raises(InvalidData) as told:
        contract_io.read(path)
    assert str(told.value) == f"the contract {path} is a folder; take it away"


def test_a_cast_frame_has_the_contracts_columns_in_its_order():
    contract = Contract(
        (
            Column("when", Kind.datetime),
            Column("x", Kind.float32, nullable=True),
            Column("n", Kind.integer),
            Column("absent", Kind.string, nullable=True),
        )
    )
    frame = pl.DataFrame(
        {"n": [1.0, 2.0], "x": [1, 2], "more": [1, 2], "when": ["2026-01-01", "2026-01-01T02:00:00+02:00"]}
    )
    made = contract_io.cast(frame, contract)
    assert made.schema == pl.Schema(contract_io.schema(contract))
    assert made["when"].to_list() == [START, START]
    assert made["absent"].to_list() == [None, None]


def test_what_is_not_finite_becomes_null():
    contract = Contract((Column("x", Kind.float32, nullable=True),))
    made = contract_io.cast(pl.DataFrame({"x": [1.0, float("nan"), float("inf"), 1e300]}), contract)
    assert made["x"].to_list() == [1.0, None, None, None]


@pytest.mark.parametrize(
    ("kind", "values"),
    [(Kind.integer, [1.5]), (Kind.integer, ["1"]), (Kind.string, [1]), (Kind.boolean, [1]), (Kind.datetime, ["soon"])],
)
def test_nothing_is_guessed(kind, values):
    with pytest.raises(InvalidData, match=f"column 'x' holds .*the contract's {kind}"):
        contract_io.cast(pl.DataFrame({"x": values}), Contract((Column("x", kind),)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            pl.lit("far").alias("distance"),
            r"column 'distance': expected float32, got string in 60 of 60 rows, first in row 1;",
        ),
        (
            pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col("seats")).alias("seats"),
            r"column 'seats': expected integer, got null in 1 row, first in row 8; correct the source, or contract\.yaml",
        ),
    ],
)
def test_rows_that_break_the_contract_are_refused_with_their_place(change, said):
    with pytest.raises(InvalidData, match=said):
        contract_frames.enforce(flights().with_columns(change), contract_of(flights()))


def test_a_missing_column_and_a_forbidden_one_are_refused():
    with pytest.raises(InvalidData, match="column 'seats' is missing from the data; it has scheduled"):
        contract_frames.enforce(flights().drop("seats"), contract_of(flights()))
    with pytest.raises(InvalidData, match="column 'new' is not in the contract, which forbids"):
        contract_frames.enforce(
            flights().with_columns(new=1), contract_of(flights(), unknown_columns=UnknownColumns.forbid)
        )


def test_rows_outside_what_was_seen_are_counted_and_kept():
    later = flights(90).with_columns(new=1)
    enforced = contract_frames.enforce(later, contract_of(flights()))
    assert enforced.warnings == {"distance": 30, "seats": 30, "new": 90}
    assert enforced.frame.height == 90


def test_a_value_that_comes_again_breaks_uniqueness_where_it_comes_again():
    contract = Contract((Column("id", Kind.integer, unique=True), Column("no", Kind.integer, unique=True, strict=True)))
    found = contract_frames.violations(pl.DataFrame({"id": [1, 2, 1], "no": [1, 1, 1]}), contract)
    assert found.select("row", "column", "level").rows() == [
        (1, "no", "error"),
        (2, "id", "warning"),
        (2, "no", "error"),
    ]


FRACTIONS = st.none() | st.sampled_from([0.0, -0.0, 1.0, 0.5, 3.5e38, -1e300, 2.0**63, 2.0**53]) | st.floats()
WHOLE = st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3) | st.sampled_from([2**53, 2**53 + 1])
TEXTS = st.none() | st.sampled_from(["a", "b", "2026-01-01", "2026-01-01T10:00:00Z", "20260101", "2026-W01-1", "", "3"])

VALUES: list[tuple[pl.DataType, st.SearchStrategy]] = [
    (pl.Float64(), FRACTIONS),
    (pl.Float32(), st.none() | st.floats(width=32)),
    (pl.Int64(), WHOLE),
    (pl.Int8(), st.none() | st.integers(-128, 127)),
    (pl.UInt64(), st.none() | st.integers(0, 2**64 - 1)),
    (pl.String(), TEXTS),
    (pl.Categorical(), TEXTS),
    (pl.Boolean(), st.none() | st.booleans()),
    (pl.Datetime("us", "UTC"), st.none() | st.just(START)),
    (pl.Datetime("ns"), st.none() | st.just(datetime(2026, 1, 1))),  # noqa: DTZ001 naive is the case here
    (pl.Date(), st.none() | st.just(date(2026, 1, 1))),
    (pl.Duration("us"), st.none() | st.just(timedelta(1))),
    (pl.Decimal(10, 2), st.none() | st.just(Decimal("1.50"))),
    (pl.List(pl.Int64()), st.none() | st.just([1])),
    (pl.Null(), st.none()),
]

BOUNDS = (
    st.none()
    | st.integers(-3, 3)
    | st.sampled_from([2**53 + 1, -(2**63), 2**63, 10**400, 0.5, 1e39])
    | st.floats(allow_nan=False)
)


@st.composite
def frames(draw: st.DrawFn) -> tuple[pl.DataFrame, Contract]:
    height = draw(st.integers(0, 4))
    described = [
        Column(
            name,
            draw(st.sampled_from(Kind)),
            nullable=draw(st.booleans()),
            minimum=draw(BOUNDS),
            maximum=draw(BOUNDS),
            categories=draw(st.none() | st.lists(st.sampled_from(["a", "b", "3"])).map(tuple)),
            strict=draw(st.booleans()),
            personal=draw(st.booleans()),
        )
        for name in draw(st.lists(st.sampled_from("abcd"), unique=True, min_size=1))
    ]
    series = []
    for name in draw(st.lists(st.sampled_from("abcde"), unique=True, min_size=1)):
        dtype, values = draw(st.sampled_from(VALUES))
        series.append(pl.Series(name, draw(st.lists(values, min_size=height, max_size=height)), dtype=dtype))
    return pl.DataFrame(series), Contract(tuple(described), draw(st.sampled_from(UnknownColumns)))


@given(frames())
@settings(max_examples=300, deadline=None)
def test_polars_and_the_row_rules_agree_row_by_row(case):
    frame, contract = case
    by_rows = [
        (number, found.column, str(found.level), found.problem)
        for number, row in enumerate(frame.iter_rows(named=True))
        for found in contract.check_row(row)
    ]
    assert sorted(contract_frames.violations(frame, contract).rows()) == sorted(by_rows)


@given(frames())
@settings(max_examples=100, deadline=None)
def test_what_is_enforced_is_what_the_row_rules_accept(case):
    frame, contract = case
    refused = any(
        found.level is Level.error for row in frame.iter_rows(named=True) for found in contract.check_row(row)
    )
    if refused:
        with pytest.raises(InvalidData):
            contract_frames.enforce(frame, contract)
    elif frame.height:
        assert contract_frames.enforce(frame, contract).frame.schema == pl.Schema(contract_io.schema(contract))
