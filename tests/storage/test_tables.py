"""Tables say the same, and have the same digests, wherever they lie."""

from __future__ import annotations

import threading

import polars as pl
import pytest

from trueline.data.datasets import PREDICTION, Datasets
from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.errors import Conflict

CONTRACT = Contract(
    (
        Column("id", Kind.integer, role=Role.entity, unique=True),
        Column("x", Kind.float32, nullable=True),
        Column("y", Kind.float32, nullable=True, role=Role.target),
    )
)


def rows(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame({"id": numbers, "x": [number / 3 for number in numbers], "y": [1.0] * len(numbers)})


def served(*numbers: int) -> pl.DataFrame:
    return rows(*numbers).with_columns(pl.format("p-{}", "id").alias(PREDICTION))


def history(dataset: Datasets) -> list[tuple[int, str, int]]:
    """Some versions of each kind: their numbers, digests and sizes."""
    dataset.ingest_source(rows(1, 2, 3), contract=CONTRACT)
    told = [dataset.newest()]
    dataset.append_feedback(served(4, 5), contract=CONTRACT)
    told.append(dataset.newest())
    dataset.append_feedback(served(6), contract=CONTRACT)
    told.append(dataset.newest())
    dataset.ingest_source(rows(1, 2, 3, 4), contract=CONTRACT)
    told.append(dataset.newest())
    return [(one.number, one.digest, one.rows) for one in told if one is not None]


def test_versions_have_the_digests_they_have_in_a_local_folder(storage, tmp_path):
    here = history(Datasets(tmp_path / "dataset"))
    there = history(Datasets(storage.table("dataset")))
    assert there == here
    assert [one[0] for one in there] == [1, 2, 3, 4]


def test_an_earlier_version_can_be_read_and_what_is_known_already_makes_none(storage):
    dataset = Datasets(storage.table("dataset"))
    history(dataset)
    assert dataset.read(number=2)["id"].to_list() == [1, 2, 3, 4, 5]
    other = Datasets(storage.table("dataset"))
    assert other.ingest_source(rows(1, 2, 3, 4), contract=CONTRACT) is None
    assert other.append_feedback(served(5, 6), contract=CONTRACT) is None
    assert other.read()["id"].to_list() == [1, 2, 3, 4, 5, 6]


def test_of_writers_at_one_moment_each_version_is_made_by_one(storage):
    Datasets(storage.table("dataset")).ingest_source(rows(0), contract=CONTRACT)
    together, outcomes = threading.Barrier(3, timeout=30), []

    def write(number: int) -> None:
        dataset = Datasets(storage.table("dataset"))
        dataset.newest()
        together.wait()
        try:
            written = dataset.append_feedback(served(number), contract=CONTRACT)
        except Conflict as problem:
            outcomes.append(problem)
        else:
            outcomes.append(written.number if written else None)

    threads = [threading.Thread(target=write, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    made = sorted(one for one in outcomes if isinstance(one, int))
    assert len(outcomes) == 3
    assert made == list(range(2, 2 + len(made)))
    assert made
    assert Datasets(storage.table("dataset")).read().height == 1 + len(made)
    assert pytest.approx(Datasets(storage.table("dataset")).newest().number) == made[-1]
