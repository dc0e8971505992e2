"""Rows to be scored, piece by piece: Parquet, CSV and JSON lines files and Delta tables, here or in a bucket.

A piece has so many rows that it takes some tens of megabytes, whatever the file's size and the width of its rows; the
next one is read when this one is done with. Files are read in the order of their names and must agree on their columns.
What lies in a bucket is brought here one file at a time; a Delta table in a bucket is read in place.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeGuard

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from trueline.errors import InvalidData
from trueline.scoring import lines
from trueline.scoring.delta import is_table, table_files
from trueline.scoring.lines import Said, Survey
from trueline.storage.address import is_s3

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
KNOWN = (*PARQUET, *CSV, *LINES)

PIECE_ROWS = 65_536
PIECE_CELLS = 2_000_000
PIECE_BYTES = 32 << 20
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Piece:
    """Rows of one file.

    `texts`: they come from a CSV file, so that every value is still text. `said`: from JSON lines, of which the table has
    only the columns that are not the model's.
    """

    table: pa.Table
    where: str
    first: int  # number of its first row in the file, from 1
    done: float  # share of the whole input that has been read with it
    texts: bool = False
    said: Said | None = None


class File(Protocol):
    """One file of the input."""

    @property
    def name(self) -> str:
        """What it is called in sentences."""

    @property
    def size(self) -> int:
        """In bytes."""

    def pieces(self, wanted: Sequence[str] | None) -> Iterator[tuple[pa.Table, float]]:
        """Its rows with the share of the file that has been read; `wanted` columns alone where there are more."""


@dataclass(frozen=True)
class Local:
    """A file on this machine."""

    path: Path
    name: str

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @contextmanager
    def here(self) -> Iterator[Path]:
        yield self.path

    def pieces(self, wanted: Sequence[str] | None) -> Iterator[tuple[pa.Table, float]]:
        lower = self.path.name.lower()
        if lower.endswith(PARQUET):
            with self.path.open("rb") as file:
                yield from parquet_pieces(file, wanted)
        else:
            yield from _csv_pieces(self.path, "\t" if ".tsv" in lower else ",")


@dataclass(frozen=True)
class InBucket:
    """An object, brought here while it is read."""

    source: str
    key: str
    size: int

    @property
    def name(self) -> str:
        return self.key

    def pieces(self, wanted: Sequence[str] | None) -> Iterator[tuple[pa.Table, float]]:
        with self.here() as path:
            yield from Local(path, self.key).pieces(wanted)

    @contextmanager
    def here(self) -> Iterator[Path]:
        """A copy on this machine."""
        from trueline.data.bucket_files import bring, find  # noqa: PLC0415 PyArrow's client comes with it

        bucket, _ = find(self.source, "--input")
        with tempfile.TemporaryDirectory(prefix="trueline-") as folder:
            yield bring(bucket, self.key, Path(folder), self.source)


def files_of(source: str) -> list[File]:
    """The files that a source names, at least one, in the order of their names.

    Raises:
        InvalidData: there is none, or one is of a form that is not read.
    """
    if not source.strip():
        raise InvalidData("--input is empty; name a file, a glob, a folder or a Delta table")
    if is_table(source):
        return list(table_files(source, parquet_pieces))
    found: list[File]
    if is_s3(source):
        from trueline.data.bucket_files import find  # noqa: PLC0415 as above

        file = any(sign in source for sign in "*?[") or source.lower().endswith(KNOWN)
        source = source if file else f"{source.rstrip('/')}/*"
        _, objects = find(source, "--input")
        found = [InBucket(source, key, stamp.size) for key, stamp in objects.items()]
    else:
        found = [Local(path, str(path)) for path in _local(source)]
    for one in found:
        if not one.name.lower().endswith(KNOWN):
            raise InvalidData(f"{one.name} is none of {', '.join(KNOWN)}, nor a Delta table; give --input such a file")
    return found


def pieces(files: Sequence[File], wanted: Sequence[str] | None, own: Sequence[str] = ()) -> Iterator[Piece]:
    """All rows; a file that cannot be read is told in one sentence. `own` are the model's inputs."""
    sizes = [file.size for file in files]
    whole, before = sum(sizes) or 1, 0
    survey, names = _survey(files, wanted, own)
    for file, size in zip(files, sizes, strict=True):
        first = 1
        with _readable(file.name):
            if size == 0:
                raise InvalidData(f"{file.name} is an empty file")
            for table, share, said in _pieces_of(file, wanted, survey, names):
                _check_names(file.name, table)
                texts = file.name.lower().endswith(CSV)
                yield Piece(table, file.name, first, (before + share * size) / whole, texts, said)
                first += table.num_rows
        before += size


def _pieces_of(
    file: File, wanted: Sequence[str] | None, survey: Survey, names: Sequence[str]
) -> Iterator[tuple[pa.Table, float, Said | None]]:
    if not _is_lines(file):
        for table, share in file.pieces(wanted):
            yield table, share, None
        return
    nothing = lines.said([], {}, names)
    yield survey.table(nothing.columns), 0.0, nothing  # no line at all is a table without rows
    with file.here() as path:
        for block, share in lines.blocks(path, file.name):
            for rows, odd in lines.rows_of(block):
                said = lines.said(rows, odd, names)
                yield survey.table(said.columns), share, said


def _survey(files: Sequence[File], wanted: Sequence[str] | None, own: Sequence[str]) -> tuple[Survey, list[str]]:
    """What JSON lines hold besides the model's inputs, and the columns to take from them."""
    survey = Survey(own)
    if wanted is None or not set(wanted) <= set(own):
        for file in filter(_is_lines, files):
            with _readable(file.name), file.here() as path:
                for block, _ in lines.blocks(path, file.name):
                    for rows, _ in lines.rows_of(block):
                        survey.take(rows)
    there = dict.fromkeys([*survey.types, *own])
    return survey, list(there if wanted is None else (name for name in wanted if name in there))


def _is_lines(file: File) -> TypeGuard[Local | InBucket]:
    return isinstance(file, Local | InBucket) and file.name.lower().endswith(LINES)


def parquet_pieces(file: BinaryIO | Any, wanted: Sequence[str] | None) -> Iterator[tuple[pa.Table, float]]:
    """Rows of an open Parquet file; its columns are streamed, so that a large row group costs no memory."""
    parquet = pa.parquet.ParquetFile(file, buffer_size=READ_BYTES, pre_buffer=False)
    facts, names = parquet.metadata, parquet.schema_arrow.names
    if facts.num_rows == 0:
        yield parquet.schema_arrow.empty_table(), 1.0
        return
    weight = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups)) / facts.num_rows
    rows = max(1, min(PIECE_ROWS, PIECE_CELLS // len(names), int(PIECE_BYTES / max(1.0, weight))))
    chosen = None if wanted is None else [name for name in names if name in set(wanted)]
    done = 0
    for batch in parquet.iter_batches(rows, columns=chosen, use_threads=False):
        done += batch.num_rows
        yield pa.Table.from_batches([batch]), done / facts.num_rows


def _csv_pieces(path: Path, separator: str) -> Iterator[tuple[pa.Table, float]]:
    """Every value as text: what it means is the contract's to say, not a guess from the first rows."""
    size = path.stat().st_size
    compression = "gzip" if path.name.lower().endswith(".gz") else None
    parse = pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    reading = pa.csv.ReadOptions(block_size=READ_BYTES, use_threads=False)
    with path.open("rb") as head, pa.input_stream(head, compression=compression) as stream:
        names = pa.csv.open_csv(stream, read_options=reading, parse_options=parse).schema.names
    meaning = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )  # fmt: skip
    with path.open("rb") as file, pa.input_stream(file, compression=compression) as stream:
        reader = pa.csv.open_csv(stream, read_options=reading, parse_options=parse, convert_options=meaning)
        yield reader.schema.empty_table(), 0.0  # a header alone is a table without rows
        for batch in reader:
            yield pa.Table.from_batches([batch]), min(1.0, file.tell() / size)


def _local(source: str) -> list[Path]:
    path = Path(source.removeprefix("file://"))
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(one for one in path.iterdir() if one.is_file() and one.name.lower().endswith(KNOWN))
        if not found:
            raise InvalidData(f"the folder {source} has no file of {', '.join(KNOWN)}, and is no Delta table")
        return found
    if any(sign in source for sign in "*?["):
        start, pattern = (Path("/"), source.lstrip("/")) if path.is_absolute() else (Path(), source)
        found = sorted(one for one in start.glob(pattern) if one.is_file())
        if found:
            return found
        raise InvalidData(f"no file matches {source}; correct --input")
    raise InvalidData(f"there is no file {source}; correct --input")


def _check_names(where: str, table: pa.Table) -> None:
    names = table.column_names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidData(f"{where} has the column '{twice}' twice; each column appears once")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """What a damaged file raises, as one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError, EOFError, zlib.error) as problem:
        what = (getattr(problem, "strerror", None) or str(problem) or type(problem).__name__).strip().splitlines()[0]
        hint = "; save it as UTF-8" if "utf" in what.lower() else ""
        raise InvalidData(f"{name} cannot be read ({what[:200]}){hint}") from problem
