"""A labelled history as a stream: where it is cut, what comes when, and what a label says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueline.domain.project import Data, Engines, Project
from trueline.errors import InvalidData, InvalidInput
from trueline.projectfile import load
from trueline.replaying import history
from trueline.replaying.history import History

START = datetime(2026, 1, 1, tzinfo=UTC)


def project(**data):
    return Project("p", Data(**{"source": "rows.csv", "target": "y", "time": "at", **data}), "model.py:fit")


def rows(count=200, every=timedelta(hours=6)):
    moments = [(START + n * every).replace(tzinfo=None) for n in range(count)]
    return pl.DataFrame({"at": moments, "x": range(count), "y": np.linspace(0, 1, count)})


@pytest.fixture
def folder(tmp_path):
    rows().write_csv(tmp_path / "rows.csv")
    (tmp_path / "model.py").write_text("")
    (tmp_path / ".trueline").mkdir()
    return tmp_path


def test_the_first_third_is_known_unless_a_day_is_named(folder):
    found = history.read(project(), folder, None)
    assert found.begins == datetime(2026, 1, 15, tzinfo=UTC)
    assert (found.known.height, found.lived.height) == (56, 144)
    named = history.read(project(), folder, datetime(2026, 2, 1, tzinfo=UTC))
    assert named.known["at"].max() < named.begins <= named.lived["at"].min()


def test_the_copy_knows_the_past_only_and_the_project_is_left_alone(folder, tmp_path_factory):
    found = history.read(project(), folder, None)
    place = tmp_path_factory.mktemp("copy")
    source = history.settle(project(), folder, found, place)
    assert pl.read_csv(source).height == found.known.height
    assert (place / "model.py").exists()
    assert not (place / ".trueline").exists()
    assert pl.read_csv(folder / "rows.csv").height == 200


ENGINES = """\
version: 1
project: p
data: {source: rows.csv, target: y, time: at}
train: model.py:fit
database: env:DATABASE_URL
tracking: https://mlflow.acme
storage: s3://acme/trueline
retrain: {rehearse: 7d}
targets:
  dev:
  prod: {database: env:PROD_DATABASE_URL, storage: s3://acme/prod, gates: {approve: {by: [zoë], count: 1}}}
"""


def test_the_copy_works_in_no_database_that_others_work_in(tmp_path):
    """At a time long past it would retrain, release and roll back there."""
    file = tmp_path / "trueline.yaml"
    file.write_text(ENGINES)
    mine = {target: load(file, target) for target in (None, "dev", "prod")}
    history.keep_to_itself(file)
    for target, before in mine.items():
        assert before.engines.database
        assert load(file, target) == replace(before, engines=Engines())


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 30), st.lists(st.integers(0, 40 * 24 * 60), min_size=8, max_size=60))
def test_every_row_comes_once_and_not_before_its_time(hours, minutes):
    frame = pl.DataFrame({"at": sorted(START + timedelta(minutes=m) for m in minutes), "y": minutes})
    cut = START + timedelta(days=10)
    came = list(History(frame, "at", "y", cut).ticks(timedelta(hours=hours)))
    lived = frame.filter(pl.col("at") >= cut)
    assert sum(piece.height for _, piece in came) == lived.height
    for now, piece in came:
        if piece.height:
            assert now - timedelta(hours=hours) <= piece["at"].min()
            assert piece["at"].max() < now


def test_a_label_is_a_number_or_one_for_the_later_word():
    frame = pl.DataFrame({"at": [START] * 3, "y": ["no", "yes", None]})
    told = History(frame, "at", "y", START).labels(frame)
    assert told[:2].tolist() == [0.0, 1.0]
    assert np.isnan(told[2])


@pytest.mark.parametrize(
    ("data", "begins", "sentence"),
    [
        ({"time": None}, None, "name the column as data.time"),
        ({"time": "when"}, None, "the source has no column 'when', which trueline.yaml names as time"),
        ({"time": "x"}, None, "the column 'x' holds Int64, not times"),
        ({}, datetime(2026, 2, 18, tzinfo=UTC), "choose another day with --begin"),
        ({}, datetime(2025, 1, 1, tzinfo=UTC), "choose another day with --begin"),
    ],
)
def test_what_cannot_be_replayed_says_why(folder, data, begins, sentence):
    with pytest.raises((InvalidInput, InvalidData), match=sentence):
        history.read(project(**data), folder, begins)


def test_a_source_that_is_not_one_file_is_refused(folder, tmp_path_factory):
    found = history.read(project(), folder, None)
    with pytest.raises(InvalidInput, match=r"one CSV or Parquet file beside the project file, not data\.py:rows"):
        history.settle(project(source="data.py:rows"), folder, found, tmp_path_factory.mktemp("copy"))


def test_cells_become_what_json_has():
    assert history.plain(float("nan")) is None
    assert history.plain(START) == "2026-01-01T00:00:00+00:00"
    assert history.plain("a") == "a"
