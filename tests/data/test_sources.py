from __future__ import annotations

import gzip
import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.data.sources import fingerprint, read_source
from trueline.data.timestamps import TIMESTAMP, as_utc, parse_timestamps
from trueline.errors import InvalidData


def write(folder: Path, name: str, text: str | bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def test_a_csv_file_is_read_with_its_dates_as_times(tmp_path):
    name = write(tmp_path, "a.csv", "day,at,x\n2026-01-02,2026-01-02 10:00:00,1\n2026-01-03,2026-01-02 11:30:00,2.5\n")
    frame = read_source(tmp_path, name)
    assert frame.schema == {"day": TIMESTAMP, "at": TIMESTAMP, "x": pl.Float64}
    assert frame["at"][1] == datetime(2026, 1, 2, 11, 30, tzinfo=UTC)


def test_offsets_in_times_are_honoured_even_when_they_differ(tmp_path):
    name = write(tmp_path, "a.csv", "at,x\n2026-01-02T10:00:00Z,1\n2026-01-02T10:00:00+02:00,2\n2026-01-02,3\n")
    hours = [moment.hour for moment in read_source(tmp_path, name)["at"]]
    assert hours == [10, 8, 0]


def test_text_that_only_begins_like_times_stays_text(tmp_path):
    name = write(tmp_path, "a.csv", "note,x\n2026-01-02,1\nsoon,2\n")
    assert read_source(tmp_path, name)["note"].to_list() == ["2026-01-02", "soon"]


def test_na_is_a_gap_among_numbers_and_a_country_among_texts(tmp_path):
    name = write(tmp_path, "a.csv", "delay,country\n3,NA\nNA,DE\n,NA\n")
    frame = read_source(tmp_path, name)
    assert frame["delay"].to_list() == [3, None, None]
    assert frame["country"].to_list() == ["NA", "DE", "NA"]


def test_a_number_late_in_a_file_still_decides_its_column(tmp_path):
    name = write(tmp_path, "a.csv", "x\n" + "1\n" * 2000 + "1.5\n")
    assert read_source(tmp_path, name)["x"].dtype == pl.Float64


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    name = write(tmp_path, "a.csv", b"\xef\xbb\xbfx,y\n1,2\n")
    assert read_source(tmp_path, name).columns == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "x,y,x\n1,2,3\n"),
        ("a.csv", "x,x,x_duplicated_0\n1,2,3\n"),
        ("a.csv", '\n"x",y,x,"two\nlines"\n1,2,3,4\n'),
        ("a.csv", "\ufeffx,x\r\n1,2\r\n"),
        ("a.tsv", "x\tx\n1\t2\n"),
        ("a.csv.gz", gzip.compress(b"x,x\n1,2\n")),
        ("plain.csv.gz", "x,x\n1,2\n"),
    ],
)
def test_a_column_that_stands_twice_in_the_header_is_refused_and_not_renamed(tmp_path, name, text):
    write(tmp_path, name, text)
    with pytest.raises(InvalidData, match=f"^the source {name} has the column 'x' twice; each column appears once$"):
        read_source(tmp_path, name)


def test_a_column_may_be_called_as_polars_would_call_one_that_stands_there_twice(tmp_path):
    name = write(tmp_path, "a.csv", "x,x_duplicated_0\n1,2\n")
    assert read_source(tmp_path, name).to_dict(as_series=False) == {"x": [1], "x_duplicated_0": [2]}


def test_parquet_keeps_its_types_and_loses_those_a_contract_does_not_know(tmp_path):
    pl.DataFrame(
        {
            "c": pl.Series(["a", "b"], dtype=pl.Categorical),
            "d": pl.Series(["1.5", "2.5"]).cast(pl.Decimal(10, 2)),
            "day": pl.Series(["2026-01-01", "2026-01-02"]).str.to_date(),
            "ns": pl.Series([1, 2]).cast(pl.Datetime("ns")),
            "f": pl.Series([1, 2], dtype=pl.Float32),
        }
    ).write_parquet(tmp_path / "a.parquet")
    schema = read_source(tmp_path, "a.parquet").schema
    assert schema == {"c": pl.String, "d": pl.Float64, "day": TIMESTAMP, "ns": TIMESTAMP, "f": pl.Float32}


def test_a_glob_is_read_in_the_order_of_names_and_columns_may_be_absent_or_empty(tmp_path):
    write(tmp_path, "data/2.csv", "x,y,z\n2.5,b,\n")
    write(tmp_path, "data/1.csv", "x,y,z\n1,a,7\n")
    write(tmp_path, "data/3.csv", "x\n3\n")
    frame = read_source(tmp_path, "data/*.csv")
    assert frame.to_dict(as_series=False) == {"x": [1.0, 2.5, 3.0], "y": ["a", "b", None], "z": [7, None, None]}


def test_files_of_one_source_that_disagree_are_refused_by_name(tmp_path):
    write(tmp_path, "1.csv", "x\n1\n")
    write(tmp_path, "2.csv", "x\none\n")
    with pytest.raises(InvalidData, match=r"column 'x' holds numbers in 1\.csv and text in 2\.csv"):
        read_source(tmp_path, "*.csv")


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("import polars as pl\ndef rows(): return pl.DataFrame({'x': [1, 2]})", "polars"),
        ("import polars as pl\ndef rows(): return pl.LazyFrame({'x': [1, 2]})", "lazy"),
        ("import pyarrow as pa\ndef rows(): return pa.table({'x': [1, 2]})", "arrow"),
        ("import pandas as pd\ndef rows(): return pd.DataFrame({'x': [1, 2]}, index=[7, 8])", "pandas"),
    ],
)
def test_a_function_may_return_any_common_frame(tmp_path, body, made):
    if made == "pandas":
        pytest.importorskip("pandas")
    write(tmp_path, "rows_of.py", body + "\n")
    assert read_source(tmp_path, "rows_of.py:rows").to_dict(as_series=False) == {"x": [1, 2]}


def test_a_function_is_read_as_its_file_is_now(tmp_path):
    for value in (1, 2):
        write(tmp_path, "live.py", f"import polars as pl\ndef rows(): return pl.DataFrame({{'x': [{value}]}})\n")
        os.utime(tmp_path / "live.py", (value, value))  # two writes within a second look alike to Python's cache
        assert read_source(tmp_path, "live.py:rows")["x"].to_list() == [value]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "def rows():\n    raise ValueError('no network')",
            r"bad\.py:2: the source bad\.py:rows raised ValueError: no net",
        ),
        ("def rows(:", r"bad\.py:1: the source bad\.py:rows raised SyntaxError"),
        ("def other(): pass", r"bad\.py has no function 'rows'"),
        ("def rows(): return 3", r"returned a int; return a Polars, pandas or Arrow frame"),
        ("def rows(): return None", r"returned a NoneType"),
    ],
)
def test_what_goes_wrong_in_a_function_is_one_sentence(tmp_path, body, said):
    write(tmp_path, "bad.py", body + "\n")
    with pytest.raises(InvalidData, match=said):
        read_source(tmp_path, "bad.py:rows")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing.csv", r"missing\.csv does not exist in"),
        ("nothing/*.parquet", r"nothing/\*\.parquet matches no file"),
        ("folder", r"folder is a folder; name its files, as in folder/\*\.parquet"),
        ("empty.csv", r"empty\.csv is an empty file"),
        ("header.csv", r"header\.csv has no rows"),
        ("latin.csv", r"latin\.csv cannot be read .*save it as UTF-8"),
        ("ragged.csv", r"ragged\.csv cannot be read"),
        ("broken.parquet", r"broken\.parquet cannot be read"),
        ("table.xlsx", r"table\.xlsx is neither CSV nor Parquet"),
        ("gone.py:rows", r"gone\.py, which does not exist"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_sentence(tmp_path, source, said):
    (tmp_path / "folder").mkdir()
    write(tmp_path, "empty.csv", "")
    write(tmp_path, "header.csv", "a,b\n")
    write(tmp_path, "latin.csv", b"name\nM\xfcnchen\n")
    write(tmp_path, "ragged.csv", "a,b\n1,2\n1,2,3\n")
    write(tmp_path, "broken.parquet", b"PAR1 not really")
    write(tmp_path, "table.xlsx", b"PK")
    with pytest.raises(InvalidData, match=said) as caught:
        read_source(tmp_path, source)
    assert "\n" not in str(caught.value)


def test_a_fingerprint_changes_with_the_files_and_not_without(tmp_path):
    write(tmp_path, "1.csv", "x\n1\n")
    first = fingerprint(tmp_path, "*.csv")
    assert fingerprint(tmp_path, "*.csv") == first
    write(tmp_path, "2.csv", "x\n2\n")
    second = fingerprint(tmp_path, "*.csv")
    os.utime(tmp_path / "1.csv", (1, 1))
    assert len({first, second, fingerprint(tmp_path, "*.csv")}) == 3


def test_a_function_has_no_fingerprint_and_a_missing_file_says_so(tmp_path):
    assert fingerprint(tmp_path, "rows.py:rows") is None
    with pytest.raises(InvalidData, match="does not exist"):
        fingerprint(tmp_path, "x.csv")


@given(st.lists(st.datetimes(), min_size=1))
def test_every_iso_time_is_understood_as_python_does(moments):
    texts = [moment.isoformat() for moment in moments]
    parsed = parse_timestamps(pl.Series([*texts, None]))
    assert parsed is not None
    assert parsed.to_list() == [*map(as_utc, moments), None]
