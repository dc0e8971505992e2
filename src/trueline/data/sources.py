"""Where the rows come from: files here or in a bucket, or a function of the project; always one Polars frame.

What leaves here has only the types a contract knows: dates are datetimes, categoricals are strings, decimals are floats,
and ISO 8601 text is a datetime in whatever source it stood. Nothing is guessed beyond that: a text that only sometimes
looks like a time stays text.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from trueline.data.timestamps import TIMESTAMP, parse_timestamps
from trueline.errors import InvalidData
from trueline.storage.address import is_s3
from trueline.userfiles import import_file

CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
PARQUET = (".parquet", ".pq")
FUNCTION = re.compile(r"^(?P<file>.+\.py):(?P<name>\w+)$")
NOTHING = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""How other tools write an empty number. Only in columns that are numbers otherwise: NA is also a country."""

RENAMED = re.compile(r"_duplicated_\d+$")
"""What Polars appends to a name that stands in a CSV file's header again; a column may also really be called so."""


def read_source(root: Path, source: str) -> pl.DataFrame:
    """All rows of the source, `root` being where its relative path starts."""
    if (function := FUNCTION.match(source)) is not None:
        frame = _plain(_from_function(root, source, function["file"], function["name"]))
    elif is_s3(source):
        from trueline.data.bucket_files import fetch  # noqa: PLC0415 PyArrow's client comes with it, for buckets only

        with tempfile.TemporaryDirectory(prefix="trueline-") as folder:
            frame = _read_files(Path(folder), fetch(source, Path(folder)))
    else:
        frame = _read_files(root, _files(root, source))
    if frame.height == 0 or frame.width == 0:
        raise InvalidData(f"the source {source} has no rows; a model cannot be trained on nothing")
    return frame


def fingerprint(root: Path, source: str) -> str | None:
    """What changes when the source's files do, without reading them; None where only reading can tell."""
    if FUNCTION.match(source) is not None:
        return None
    if is_s3(source):
        from trueline.data.bucket_files import fingerprint as of_objects  # noqa: PLC0415 as above

        return of_objects(source)
    digest = hashlib.sha256()
    for path in _files(root, source):
        try:
            facts = path.stat()
        except OSError as problem:
            raise _unreadable(root, path, problem) from problem
        digest.update(f"{_shown(root, path)}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_files(root: Path, paths: Sequence[Path]) -> pl.DataFrame:
    frames = {path: _plain(_read_file(root, path)) for path in paths}
    return _together(root, frames) if len(frames) > 1 else next(iter(frames.values()))


def _files(root: Path, source: str) -> list[Path]:
    """The files a source names, sorted by name, at least one."""
    path = root / source
    if path.is_file():
        return [path]
    if path.is_dir():
        raise InvalidData(f"the source {source} is a folder; name its files, as in {source.rstrip('/')}/*.parquet")
    if any(sign in source for sign in "*?["):
        pattern, start = (source, root) if not Path(source).is_absolute() else (source.lstrip("/"), Path("/"))
        found = sorted(one for one in start.glob(pattern) if one.is_file())
        if found:
            return found
        raise InvalidData(f"the source {source} matches no file in {root}; correct `data.source` in trueline.yaml")
    raise InvalidData(f"the source {source} does not exist in {root}; correct `data.source` in trueline.yaml")


def _read_file(root: Path, path: Path) -> pl.DataFrame:
    name = path.name.lower()
    if not name.endswith((*CSV, *PARQUET)):
        raise InvalidData(
            f"the source {_shown(root, path)} is neither CSV nor Parquet; give such a file, "
            "or a function that reads it, as in data.py:rows"
        )
    if path.stat().st_size == 0:
        raise InvalidData(f"the source {_shown(root, path)} is an empty file")
    try:
        if name.endswith(PARQUET):
            return pl.read_parquet(path, glob=False, hive_partitioning=False)
        return _numbers_with_gaps(read_csv(path, _shown(root, path)))
    except (OSError, pl.exceptions.PolarsError, UnicodeError) as problem:
        raise _unreadable(root, path, problem) from problem


def read_csv(path: Path, name: str, *, rows: int | None = None) -> pl.DataFrame:
    """The first rows of a file of comma or tab separated values, or all; `name` is what sentences call it.

    Raises:
        InvalidData: its header has a column twice.
        OSError, pl.exceptions.PolarsError: it cannot be read.
    """
    separator = "\t" if ".tsv" in path.name.lower() else ","
    try:
        frame = pl.read_csv(
            path, separator=separator, n_rows=rows, infer_schema_length=None, try_parse_dates=True, glob=False
        )
    except pl.exceptions.DuplicateError:
        _check_header(path, name, separator)
        raise
    if any(RENAMED.search(column) for column in frame.columns):
        _check_header(path, name, separator)
    return frame


def _check_header(path: Path, name: str, separator: str) -> None:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    opened = gzip.open if zipped else open
    with opened(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:
        header = next(filter(None, csv.reader(file, delimiter=separator)), [])
    for place, column in enumerate(header):
        if column in header[:place]:
            raise InvalidData(f"the source {name} has the column '{column}' twice; each column appears once")


def _unreadable(root: Path, path: Path, problem: Exception) -> InvalidData:
    what = (getattr(problem, "strerror", None) or str(problem) or type(problem).__name__).strip().splitlines()[0][:200]
    hint = "; save it as UTF-8" if "utf" in what.lower() else ""
    return InvalidData(f"the source {_shown(root, path)} cannot be read ({what}){hint}")


def _numbers_with_gaps(frame: pl.DataFrame) -> pl.DataFrame:
    """Text columns that are numbers but for words like NA become numbers with nulls."""
    for name, dtype in frame.schema.items():
        if dtype != pl.String:
            continue
        column = frame[name]
        gaps = column.is_in(NOTHING).fill_null(value=False)
        if not gaps.any():
            continue
        rest = column.set(gaps, None)
        for number in (pl.Int64, pl.Float64):
            parsed = rest.cast(number, strict=False)
            if parsed.null_count() == rest.null_count() < frame.height:
                frame = frame.with_columns(parsed)
                break
    return frame


def _together(root: Path, frames: dict[Path, pl.DataFrame]) -> pl.DataFrame:
    """Rows of several files; a column may be absent or empty in some, and whole numbers in one, fractions in another."""
    seen: dict[str, tuple[Path, str]] = {}
    for path, frame in frames.items():
        empty = [name for name in frame.columns if frame[name].null_count() == frame.height]
        frames[path] = frame.with_columns(pl.col(empty).cast(pl.Null)) if empty else frame
        for name in frame.columns:
            if name in empty:
                continue
            holds = _holds(frame[name].dtype)
            first, before = seen.setdefault(name, (path, holds))
            if holds != before:
                raise InvalidData(
                    f"column '{name}' holds {before} in {_shown(root, first)} and {holds} in {_shown(root, path)}; "
                    "the files of one source must agree"
                )
    try:
        return pl.concat(frames.values(), how="diagonal_relaxed")
    except pl.exceptions.PolarsError as problem:
        raise InvalidData(f"the files of the source do not fit together ({problem})") from problem


def _holds(dtype: pl.DataType) -> str:
    if dtype.is_numeric():
        return "numbers"
    return {pl.String: "text", pl.Boolean: "booleans", pl.Datetime: "times"}.get(dtype.base_type(), str(dtype))


def _from_function(root: Path, source: str, file: str, name: str) -> pl.DataFrame:
    path = root / file
    if not path.is_file():
        raise InvalidData(f"the source {source} names the file {file}, which does not exist in {root}")
    try:
        function = _import(root, path, name)
        made = None if function is None else function()
    except Exception as problem:  # the project's own code: whatever it raises is this source's fault
        where = _line(problem, path)
        lines = str(problem).strip().splitlines()
        what = f"{type(problem).__name__}: {lines[0][:300]}" if lines else type(problem).__name__
        raise InvalidData(f"{file}{where}: the source {source} raised {what}") from problem
    if function is None:
        raise InvalidData(f"{file} has no function '{name}'; correct `data.source` in trueline.yaml")
    return _as_frame(made, source)


def _import(root: Path, path: Path, name: str) -> Callable[[], Any] | None:
    """The function, from the file as it is now; the project's root and the file's folder are importable."""
    for folder in (str(path.parent.absolute()), str(root.absolute())):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    found = getattr(import_file(path, f"_trueline_source_{path.stem}"), name, None)
    return found if callable(found) else None


def _as_frame(made: Any, source: str) -> pl.DataFrame:
    if isinstance(made, pl.LazyFrame):
        made = made.collect()
    if isinstance(made, pl.DataFrame):
        return made
    try:
        if type(made).__module__.partition(".")[0] == "pandas":
            made = pl.from_pandas(made)
        elif hasattr(made, "__arrow_c_stream__") or hasattr(made, "__arrow_c_array__"):
            made = pl.from_arrow(made)
    except Exception as problem:
        raise InvalidData(f"the source {source} returned a frame that Polars cannot take: {problem}") from problem
    if not isinstance(made, pl.DataFrame):
        raise InvalidData(
            f"the source {source} returned a {type(made).__name__}; return a Polars, pandas or Arrow frame"
        )
    return made


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """The same values in the few types a contract knows."""
    changed = []
    for name, dtype in frame.schema.items():
        if dtype == pl.String:
            parsed = parse_timestamps(frame[name])
            if parsed is not None:
                changed.append(parsed)
        elif isinstance(dtype, pl.Datetime):
            if dtype != TIMESTAMP:
                zoned = frame[name].dt.replace_time_zone("UTC") if dtype.time_zone is None else frame[name]
                changed.append(zoned.cast(TIMESTAMP))
        elif isinstance(dtype, pl.Date):
            changed.append(frame[name].cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
        elif isinstance(dtype, pl.Categorical | pl.Enum | pl.Time):
            changed.append(frame[name].cast(pl.String))
        elif isinstance(dtype, pl.Decimal):
            changed.append(frame[name].cast(pl.Float64))
    return frame.with_columns(changed) if changed else frame


def _shown(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _line(problem: Exception, path: Path) -> str:
    if isinstance(problem, SyntaxError) and problem.lineno is not None:
        return f":{problem.lineno}"
    lines = [one.lineno for one in traceback.extract_tb(problem.__traceback__) if Path(one.filename) == path]
    return f":{lines[-1]}" if lines and lines[-1] is not None else ""
