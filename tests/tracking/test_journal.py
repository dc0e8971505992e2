from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueline.errors import InvalidInput
from trueline.tracking import journal
from trueline.tracking.entries import Metric, Param
from trueline.tracking.journal import Journal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_what_is_logged_is_read_in_order(folder: Path) -> None:
    journal.begin(folder)
    journal.log("loss", 0.5)
    journal.log("loss", 0.25)
    journal.log("loss", 0.1, step=10)
    journal.log("loss", 0.05)
    journal.log_params({"depth": 6, "name": "größe"})
    journal.end()
    entries, offset = journal.read(folder)
    assert [(one.name, one.value, one.step) for one in entries if isinstance(one, Metric)] == [
        ("loss", 0.5, 0),
        ("loss", 0.25, 1),
        ("loss", 0.1, 10),
        ("loss", 0.05, 11),
    ]
    assert entries[4:] == [Param("depth", "6"), Param("name", "größe")]
    assert journal.read(folder, offset) == ([], offset)


def test_outside_a_run_logging_warns_and_does_nothing() -> None:
    with pytest.warns(UserWarning, match=r"trueline\.log was called outside"):
        journal.log("loss", 1.0)
    with pytest.warns(UserWarning, match=r"trueline\.log_params was called outside"):
        journal.log_params({})


def test_reading_goes_on_in_batches_from_where_it_stopped(folder: Path) -> None:
    written = Journal(folder)
    for number in range(25):
        written.metric("m", number)
    written.close()
    seen, offset = [], {}
    while batch := journal.read(folder, offset, limit=10):
        entries, offset = batch
        if not entries:
            break
        assert len(entries) <= 10
        seen += [one.value for one in entries if isinstance(one, Metric)]
    assert seen == list(range(25))


@given(cut=st.integers(0, 120))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_torn_last_line_waits_until_it_is_whole(folder: Path, cut: int) -> None:
    path = folder / journal.NAME
    path.unlink(missing_ok=True)
    written = Journal(folder)
    for number in range(4):
        written.metric("m", number, step=number)
    written.close()
    whole = path.read_bytes()
    os.truncate(path, min(cut, len(whole)))
    first, offset = journal.read(folder)
    path.write_bytes(whole)
    rest, _ = journal.read(folder, offset)
    assert [one.step for one in first + rest if isinstance(one, Metric)] == [0, 1, 2, 3]


def test_a_damaged_line_between_whole_ones_is_passed_over(folder: Path) -> None:
    (folder / journal.NAME).write_bytes(b'{"m":"a","v":1.0,"s":0,"t":1}\n{"m":"b","v"\n{"p":"c","v":"d"}\n')
    assert journal.read(folder)[0] == [Metric("a", 1.0, 0, 1), Param("c", "d")]


def test_a_run_that_logged_nothing_has_no_entries(folder: Path) -> None:
    assert journal.read(folder)[0] == []


@given(value=st.floats(allow_nan=False))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_values_keep_every_bit(folder: Path, value: float) -> None:
    (folder / journal.NAME).unlink(missing_ok=True)
    written = Journal(folder)
    written.metric("na:me", value)
    written.close()
    ((entry,), _) = journal.read(folder)
    assert isinstance(entry, Metric)
    assert (entry.name, entry.value) == ("na:me", value)


def test_nan_is_kept(folder: Path) -> None:
    written = Journal(folder)
    written.metric("m", float("nan"))
    written.close()
    ((entry,), _) = journal.read(folder)
    assert isinstance(entry, Metric)
    assert math.isnan(entry.value)


@pytest.mark.parametrize("name", ["", "x" * 251, 7])
def test_a_name_that_mlflow_would_refuse_is_refused_at_once(folder: Path, name: str) -> None:
    written = Journal(folder)
    with pytest.raises(InvalidInput, match="1 to 250 characters"):
        written.metric(name, 1.0)
    written.close()
    assert journal.read(folder)[0] == []
