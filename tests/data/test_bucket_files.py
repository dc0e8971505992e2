"""A project's source in a bucket."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

import s3
from s3 import Fate
from trueline.data import bucket_files
from trueline.data.sources import fingerprint, read_source
from trueline.errors import InvalidData, InvalidProject, Unavailable
from trueline.storage.address import Service, parse
from trueline.storage.bucket import Bucket
from trueline.storage.places import PATIENCE

ROOT = Path("/nowhere")


@pytest.fixture
def bucket():
    with s3.environment(s3.endpoint()):
        yield s3.new_bucket()


@pytest.fixture
def put(bucket, tmp_path):
    def put(key: str, frame: pl.DataFrame) -> None:
        path = tmp_path / "object"
        (frame.write_parquet if key.endswith(".parquet") else frame.write_csv)(path)
        Bucket(parse(f"s3://{bucket}", Service.of()), PATIENCE).put(key, path)

    return put


def rows(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame({"at": [f"2026-01-{number:02} 10:00:00" for number in numbers], "x": numbers})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_in_a_bucket_is_read_as_one_beside_the_project(bucket, put, tmp_path, kind):
    put(f"flights/january.{kind}", rows(1, 2))
    rows(1, 2).write_csv(tmp_path / "january.csv")
    here = read_source(tmp_path, "january.csv")
    assert read_source(ROOT, f"s3://{bucket}/flights/january.{kind}").equals(here)


def test_several_are_one_source_in_the_order_of_their_names(bucket, put):
    for key, number in (("f/b.csv", 2), ("f/a.csv", 1), ("f/deep/c.csv", 3), ("f/a.txt", 9), ("g/a.csv", 9)):
        put(key, rows(number))
    assert read_source(ROOT, f"s3://{bucket}/f/*.csv")["x"].to_list() == [1, 2]
    assert read_source(ROOT, f"s3://{bucket}/f/?.csv")["x"].to_list() == [1, 2]
    assert read_source(ROOT, f"s3://{bucket}/f/**/*.csv")["x"].to_list() == [1, 2, 3]


def test_what_is_not_there_is_told(bucket):
    for source in (f"s3://{bucket}/nothing.csv", f"s3://{bucket}/*.csv", f"s3://{bucket}"):
        with pytest.raises(InvalidData, match="does not exist or matches nothing"):
            read_source(ROOT, source)
    with pytest.raises(InvalidProject, match=r"source is s3://X/a\.csv; expected"):
        read_source(ROOT, "s3://X/a.csv")


def test_objects_that_stayed_as_they_are_are_known_without_reading_them(bucket, put, monkeypatch):
    source = f"s3://{bucket}/f/*.csv"
    put("f/a.csv", rows(1))
    assert fingerprint(ROOT, source) is None  # it may change again within the second that its stamp tells
    monkeypatch.setattr(bucket_files, "SETTLED", timedelta(days=-1))
    first = fingerprint(ROOT, source)
    assert first is not None
    assert fingerprint(ROOT, source) == first
    put("f/b.csv", rows(2))
    assert fingerprint(ROOT, source) != first


def test_a_bucket_that_is_away_is_unavailable_and_not_a_mistake_in_the_data(bucket, put, monkeypatch):
    put("a.csv", rows(1))
    monkeypatch.setattr(bucket_files, "ATTEMPTS", s3.QUICK)
    with s3.proxy() as proxy, s3.environment(proxy.endpoint):
        proxy.does(Fate(503, "SlowDown"))
        with pytest.raises(Unavailable, match="it is tried again"):
            read_source(ROOT, f"s3://{bucket}/a.csv")
