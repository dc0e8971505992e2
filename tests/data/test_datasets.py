from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueline.data import datasets, digests
from trueline.data.datasets import FEEDBACK, ORIGIN, PREDICTION, SOURCE, Datasets
from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.errors import Conflict, InvalidData, NotFound, Unavailable

START = datetime(2026, 1, 1, tzinfo=UTC)
CONTRACT = Contract(
    (
        Column("at", Kind.datetime, role=Role.time),
        Column("flight", Kind.string, nullable=True, role=Role.entity),
        Column("distance", Kind.float32, nullable=True),
        Column("late", Kind.float32, nullable=True, role=Role.target),
    )
)
WITHOUT_ENTITY = Contract(tuple(column for column in CONTRACT.columns if column.role is not Role.entity))


def source(first: int, last: int) -> pl.DataFrame:
    numbers = range(first, last)
    return pl.DataFrame(
        {
            "at": [START + timedelta(hours=number) for number in numbers],
            "flight": [f"F{number}" for number in numbers],
            "distance": [number / 10 for number in numbers],
            "late": [None if number % 5 == 0 else float(number % 3) for number in numbers],
        },
        schema_overrides={"at": pl.Datetime("us", "UTC"), "late": pl.Float64},
    )


def served(first: int, last: int) -> pl.DataFrame:
    return source(first, last).with_columns(pl.format("p-{}", pl.col("flight")).alias(PREDICTION))


def flights(frame: pl.DataFrame) -> list[str]:
    return frame["flight"].to_list()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "tables" / "dataset"


@pytest.fixture
def dataset(table: Path) -> Datasets:
    return Datasets(table)


def test_there_is_nothing_before_the_first_version(dataset):
    assert dataset.newest() is None
    with pytest.raises(NotFound, match="no version yet"):
        dataset.read()


def test_the_first_source_makes_version_one(dataset):
    written = dataset.ingest_source(source(0, 10), contract=CONTRACT)
    assert written is not None
    assert (written.number, written.rows, written.origin, written.delta_version) == (1, 10, SOURCE, 0)
    assert dataset.newest() == written
    frame = dataset.read()
    assert frame.columns == [*CONTRACT.names, PREDICTION, ORIGIN]
    assert frame[PREDICTION].null_count() == 10
    assert frame["late"].null_count() == 2  # rows that wait for their label are kept


def test_the_same_rows_make_no_version_in_whatever_order_they_come(dataset):
    dataset.ingest_source(source(0, 10), contract=CONTRACT)
    assert dataset.ingest_source(source(0, 10).sample(fraction=1, shuffle=True, seed=1), contract=CONTRACT) is None


def test_a_changed_source_replaces_its_rows_and_keeps_the_feedback(dataset):
    dataset.ingest_source(source(0, 5), contract=CONTRACT)
    dataset.append_feedback(served(5, 8), contract=CONTRACT)
    written = dataset.ingest_source(source(2, 5), contract=CONTRACT)
    assert written is not None
    assert (written.number, written.rows, written.origin) == (3, 6, SOURCE)
    assert flights(dataset.read(time="at")) == ["F2", "F3", "F4", "F5", "F6", "F7"]


def test_feedback_gives_way_when_the_source_has_the_same_entity(dataset):
    dataset.ingest_source(source(0, 5), contract=CONTRACT)
    dataset.append_feedback(served(5, 8), contract=CONTRACT)
    dataset.ingest_source(source(0, 7), contract=CONTRACT)
    frame = dataset.read(time="at")
    assert frame.select("flight", ORIGIN).rows()[4:] == [
        ("F4", SOURCE),
        ("F5", SOURCE),
        ("F6", SOURCE),
        ("F7", FEEDBACK),
    ]
    assert dataset._table.newest().facts.feedback_digest == digests.of_rows(
        frame.filter(pl.col(ORIGIN) == FEEDBACK).drop(ORIGIN)
    )


def test_feedback_is_added_once(dataset):
    dataset.ingest_source(source(0, 5), contract=CONTRACT)
    first = dataset.append_feedback(served(3, 8), contract=CONTRACT)
    assert first is not None
    assert (first.number, first.rows, first.origin) == (2, 8, FEEDBACK)
    assert dataset.append_feedback(served(3, 8), contract=CONTRACT) is None
    again = dataset.append_feedback(served(6, 9), contract=CONTRACT)
    assert again is not None
    assert flights(dataset.read(time="at")) == [f"F{number}" for number in range(9)]


def test_of_two_rows_of_a_unique_entity_the_earlier_counts(dataset):
    columns = (replace(one, unique=one.role is Role.entity) for one in CONTRACT.columns)
    contract = replace(CONTRACT, columns=tuple(columns))
    later = served(3, 4).with_columns(pl.col("at") + timedelta(hours=1), pl.lit("other").alias(PREDICTION))
    dataset.append_feedback(pl.concat([later, served(3, 4)]), contract=contract)
    assert dataset.read()[PREDICTION].to_list() == ["p-F3"]


def test_an_entity_comes_again_at_another_time(dataset):
    """A customer is asked about every month: each time is a row; asked twice about one moment, it is one."""
    dataset.ingest_source(source(3, 4), contract=CONTRACT)
    later = served(3, 4).with_columns(pl.col("at") + timedelta(hours=1), pl.lit("later").alias(PREDICTION))
    twice = later.with_columns(pl.lit("twice").alias(PREDICTION))
    written = dataset.append_feedback(pl.concat([served(3, 4), later, twice]), contract=CONTRACT)
    assert written is not None
    assert dataset.read(time="at").select("flight", PREDICTION).rows() == [("F3", None), ("F3", "later")]


@pytest.mark.parametrize("contract", [WITHOUT_ENTITY, CONTRACT])
def test_without_an_entity_a_row_is_known_by_its_prediction(dataset, contract):
    rows = served(0, 4).with_columns(pl.lit(None, dtype=pl.String).alias("flight"))
    written = dataset.append_feedback(pl.concat([rows, rows]), contract=contract)
    assert written is not None
    assert written.rows == 4
    assert dataset.append_feedback(rows, contract=contract) is None


def test_what_feedback_does_not_tell_is_null(dataset):
    dataset.append_feedback(served(0, 2).drop("distance"), contract=CONTRACT)
    assert dataset.read()["distance"].to_list() == [None, None]


@pytest.mark.parametrize("rows", [source(0, 1), served(0, 1).with_columns(pl.lit(None).alias(PREDICTION))])
def test_feedback_without_predictions_is_refused(dataset, rows):
    with pytest.raises(InvalidData, match="feedback rows need _prediction_id"):
        dataset.append_feedback(rows, contract=CONTRACT)


def test_rows_are_cut_by_time_from_start_to_before_end(dataset):
    dataset.ingest_source(source(0, 10), contract=CONTRACT)
    dataset.append_feedback(served(10, 20), contract=CONTRACT)
    cut = dataset.read(start=START + timedelta(hours=8), end=START + timedelta(hours=12), time="at")
    assert flights(cut) == ["F8", "F9", "F10", "F11"]
    with pytest.raises(InvalidData, match="names the time column"):
        dataset.read(start=START)


def test_without_a_time_rows_stay_as_the_source_has_them(dataset):
    contract = Contract((Column("x", Kind.integer), Column("y", Kind.integer, role=Role.target)))
    dataset.ingest_source(pl.DataFrame({"x": [3, 1, 2], "y": [1, 2, 3]}), contract=contract)
    assert dataset.read()["x"].to_list() == [3, 1, 2]
    assert dataset.ingest_source(pl.DataFrame({"x": [1, 2, 3], "y": [2, 3, 1]}), contract=contract) is not None


def test_every_version_can_be_read_again(dataset):
    dataset.ingest_source(source(0, 3), contract=CONTRACT)
    dataset.append_feedback(served(3, 5), contract=CONTRACT)
    dataset.ingest_source(source(0, 1), contract=CONTRACT)
    assert [dataset.read(number=number).height for number in (1, 2, 3)] == [3, 5, 3]
    with pytest.raises(NotFound, match="no version 4; the newest is 3"):
        dataset.read(number=4)


def test_another_process_sees_the_newest_version(dataset, table):
    reader = Datasets(table)
    assert reader.newest() is None
    for last in (3, 5):
        written = dataset.ingest_source(source(0, last), contract=CONTRACT)
        assert reader.newest() == written
        assert reader.read(time="at").equals(dataset.read(time="at"))
    assert reader.append_feedback(served(4, 6), contract=CONTRACT) is not None
    assert dataset.append_feedback(served(4, 6), contract=CONTRACT) is None


def test_a_changed_contract_takes_the_rows_along(dataset):
    dataset.ingest_source(source(0, 3), contract=CONTRACT)
    dataset.append_feedback(served(3, 5), contract=CONTRACT)
    wider = Contract((*CONTRACT.columns, Column("gate", Kind.string, nullable=True)))
    written = dataset.append_feedback(served(5, 6).with_columns(gate=pl.lit("A1")), contract=wider)
    assert written is not None
    assert dataset.read(time="at")["gate"].to_list() == [None] * 5 + ["A1"]
    assert dataset.ingest_source(source(0, 3), contract=wider) is None
    assert flights(dataset.read(number=2, time="at")) == ["F0", "F1", "F2", "F3", "F4"]


def test_a_contract_that_the_rows_cannot_follow_is_refused_and_nothing_is_written(dataset):
    dataset.append_feedback(served(0, 3), contract=CONTRACT)
    columns = [column for column in CONTRACT.columns if column.name != "distance"]
    with pytest.raises(InvalidData, match="the contract does not fit the rows the dataset has: column 'distance'"):
        dataset.append_feedback(
            served(3, 4).drop("distance"),
            contract=Contract((*columns, Column("distance", Kind.string, nullable=True))),
        )
    assert dataset.newest().number == 1


def test_maintenance_by_others_makes_no_version_and_changes_no_digest(dataset, table):
    for first in range(0, 12, 3):
        dataset.append_feedback(served(first, first + 3), contract=CONTRACT)
    before, rows = dataset.newest(), dataset.read(time="at")
    DeltaTable(table).optimize.compact()
    DeltaTable(table).create_checkpoint()
    for reader in (dataset, Datasets(table)):
        assert reader.newest() == before
        assert reader.read(time="at").equals(rows)
    assert dataset.append_feedback(served(10, 13), contract=CONTRACT).number == 5


def test_many_small_appends_are_put_together(dataset, table, monkeypatch):
    monkeypatch.setattr(datasets, "COMPACT_EVERY", 4)
    for number in range(8):
        dataset.append_feedback(served(number, number + 1), contract=CONTRACT)
    assert len(DeltaTable(table).file_uris()) == 1
    assert flights(dataset.read(time="at")) == [f"F{number}" for number in range(8)]
    assert dataset.read(number=3).height == 3


def test_two_writers_at_one_moment_do_not_mix(dataset, table):
    dataset.ingest_source(source(0, 3), contract=CONTRACT)
    other = Datasets(table)
    other.newest()
    facts = other._table.newest().facts
    dataset.append_feedback(served(3, 4), contract=CONTRACT)
    late = pl.DataFrame(schema=dataset._table.scan().collect_schema())
    with pytest.raises(Conflict, match="dataset version 2 at the same moment"):
        other._table.commit(late, type(facts)(2, *list(vars(facts).values())[1:]), replace=False)
    assert dataset.newest().rows == 4


def test_a_table_that_is_damaged_is_told(dataset, table):
    dataset.ingest_source(source(0, 3), contract=CONTRACT)
    for file in table.rglob("*.parquet"):
        file.unlink()
    with pytest.raises(Unavailable, match="cannot be read"):
        dataset.read()


def test_a_table_of_somebody_else_has_no_version_of_ours(dataset, table):
    write_deltalake(table, source(0, 1))
    assert dataset.newest() is None


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_digest_does_not_depend_on_how_rows_were_cut_into_batches(tmp_path_factory, cuts, random):
    edges = sorted({0, 30, *cuts})
    batches = [served(first, last) for first, last in itertools.pairwise(edges)]
    random.shuffle(batches)
    found = set()
    for batch in (batches, [served(0, 30)]):
        dataset = Datasets(tmp_path_factory.mktemp("dataset") / "table")
        dataset.ingest_source(source(100, 110), contract=CONTRACT)
        for rows in batch:
            dataset.append_feedback(rows, contract=CONTRACT)
        found.add(dataset.newest().digest)
    assert len(found) == 1


VALUES = st.fixed_dictionaries({"x": st.none() | st.floats(allow_nan=False), "s": st.none() | st.text(max_size=3)})


@given(st.lists(VALUES, max_size=6), st.lists(VALUES, max_size=6))
@settings(deadline=None)
def test_digests_are_equal_exactly_when_rows_are(left, right):
    schema = {"x": pl.Float64, "s": pl.String}
    one, other = pl.DataFrame(left, schema=schema), pl.DataFrame(right, schema=schema)
    said = [[json.dumps(row, sort_keys=True) for row in rows] for rows in (left, right)]
    assert (digests.of_frame(one) == digests.of_frame(other)) == (said[0] == said[1])
    assert (digests.of_rows(one) == digests.of_rows(other)) == (sorted(said[0]) == sorted(said[1]))
    assert digests.without_rows(other, digests.of_rows(other, digests.of_rows(one))) == digests.of_rows(one)


def test_digests_are_what_they_were_in_earlier_releases():
    frame = pl.DataFrame({"n": [1, None], "x": [0.1, 2.0], "s": ["ä", ""], "b": [True, None]}).with_columns(
        pl.Series("t", [START, None]).cast(pl.Datetime("us", "UTC")), pl.col("x").cast(pl.Float32)
    )
    assert digests.of_frame(frame)[:16] == "c868405b13e4950d"
    assert digests.of_rows(frame)[:16] == "b62b77d9a19a19c2"


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_loses_and_doubles_nothing(table):
    """Its successor does the same again from the start, as a run that is taken over does."""
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_datasets import CONTRACT, Datasets, served, source
        dataset = Datasets(Path({str(table)!r}))
        dataset.ingest_source(source(0, 5), contract=CONTRACT)
        for number in range(5, 60):
            print(number, flush=True)
            dataset.append_feedback(served(number, number + 1), contract=CONTRACT)
        """
    )
    for kill_at in (5, 9, 30, None):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as writer:
            for line in writer.stdout:
                if kill_at is not None and int(line) >= kill_at:
                    writer.send_signal(signal.SIGKILL)
                    break
            writer.stdout.read()
    dataset = Datasets(table)
    assert flights(dataset.read(time="at")) == [f"F{number}" for number in range(60)]
    written = dataset.newest()
    assert (written.number, written.rows) == (56, 60)
    assert written.digest == digests.of_texts(
        written.source_digest, digests.of_rows(dataset.read().filter(pl.col(ORIGIN) == FEEDBACK).drop(ORIGIN))
    )
