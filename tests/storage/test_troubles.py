"""A service that refuses, fails, hangs or loses its answers: one sentence, and nothing lost or doubled."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

import s3
from s3 import HANGS, LOST, Fate
from trueline.data import predictions
from trueline.data.datasets import Datasets
from trueline.data.predictions import Predictions
from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.errors import Unavailable
from trueline.settings import StateFolder
from trueline.storage.places import open_storage

CONTRACT = Contract((Column("x", Kind.integer), Column("y", Kind.integer, role=Role.target)))
ROWS = pl.DataFrame({"x": [1, 2], "y": [3, 4]})

REFUSALS = [
    (Fate(403, "InvalidAccessKeyId"), "the access key is not known; check AWS_ACCESS_KEY_ID"),
    (Fate(403, "SignatureDoesNotMatch"), "the secret key does not fit the access key; check AWS_ACCESS"),
    (Fate(400, "ExpiredToken"), "the session token has expired"),
    (Fate(403, "AccessDenied"), "access was denied; the key needs s3:ListBucket"),
    (Fate(403, "RequestTimeTooSkewed"), "this machine's clock is off; set the clock"),
    (Fate(404, "NoSuchBucket"), "there is no such bucket; make it"),
    (Fate(503, "SlowDown"), "the service asks to slow down; it is tried again"),
    (Fate(500, "InternalError"), "the service failed; it is tried again"),
    (Fate(HANGS, "silence"), "the service did not answer in time; it is tried again"),
]


def sentence(of: pytest.ExceptionInfo[Unavailable]) -> str:
    """What is said: one line, in plain letters."""
    said = str(of.value)
    assert "\n" not in said
    assert "\x1b" not in said
    assert len(said) < 400
    return said


@pytest.mark.parametrize(("fate", "expected"), REFUSALS, ids=[fate.code for fate, _ in REFUSALS])
def test_each_refusal_is_one_sentence_wherever_it_is_met(behind, tmp_path, fate, expected):
    proxy, storage = behind
    proxy.does(fate)
    (tmp_path / "file").write_bytes(b"1")
    asked: list[Callable[[], object]] = [lambda: Predictions(storage.table("predictions")).days()]
    if fate.status != HANGS:
        asked.append(lambda: storage.objects.put("a/file", tmp_path / "file"))
        asked.append(lambda: Datasets(storage.table("dataset")).ingest_source(ROWS, contract=CONTRACT))
    for ask in asked:
        with pytest.raises(Unavailable) as told:
            ask()
        assert expected in sentence(told)
        assert "s3://" in sentence(told)


def test_nobody_at_the_address_is_one_sentence(tmp_path):
    with s3.environment("http://127.0.0.1:9"):
        storage = open_storage("s3://bucket/p", StateFolder(tmp_path))
        with pytest.raises(Unavailable) as told:
            Predictions(storage.table("predictions")).days()
    assert "the table s3://bucket/p/tables/predictions cannot be read: nobody answers at its address" in sentence(told)


@pytest.mark.parametrize("where", [r"GET .*\.parquet", r"GET .*list-type"])
def test_a_table_that_cannot_be_read_any_more_says_so_and_recovers(behind, where):
    proxy, storage = behind
    dataset = Datasets(storage.table("dataset"))
    dataset.ingest_source(ROWS, contract=CONTRACT)
    proxy.does(Fate(503, "SlowDown", where))
    with pytest.raises(Unavailable) as told:
        dataset.read()
    assert "the service asks to slow down" in sentence(told)
    proxy.does()
    assert dataset.read().height == 2


def test_a_service_that_fails_now_and_then_is_asked_again(behind, tmp_path):
    proxy, storage = behind
    proxy.does(Fate(503, "SlowDown", times=1, each=True))
    (tmp_path / "file").write_bytes(b"1")
    storage.objects.put("a/file", tmp_path / "file")
    assert b"".join(storage.objects.read("a/file")) == b"1"
    dataset = Datasets(storage.table("dataset"))
    dataset.ingest_source(ROWS, contract=CONTRACT)
    assert dataset.read().height == 2


@pytest.mark.parametrize("lost", [r"PUT .*\.json", r"PUT .*\.parquet"])
def test_a_commit_whose_answer_is_lost_is_made_once(behind, lost):
    proxy, storage = behind
    Datasets(storage.table("dataset")).ingest_source(ROWS[:1], contract=CONTRACT)
    proxy.does(Fate(LOST, pattern=lost, times=1))
    dataset = Datasets(storage.table("dataset"))
    assert dataset.ingest_source(ROWS, contract=CONTRACT) == dataset.newest()
    assert dataset.ingest_source(ROWS, contract=CONTRACT) is None
    newest = dataset.newest()
    assert newest is not None
    assert (newest.number, newest.rows) == (2, 2)
    assert dataset.read()["x"].to_list() == [1, 2]


def test_a_table_that_was_never_written_is_empty(storage):
    assert Predictions(storage.table("predictions")).days() == []
    assert predictions.find(storage.table("predictions"), "p") is None
    assert Datasets(storage.table("dataset")).newest() is None
