"""JSON lines: one row on each line, an object as `/predict` takes it.

Each value stays what JSON says, a text or a number, until the model's contract judges it; that is how the server's words
come about. Columns that no contract speaks for are surveyed before anything is scored, so that what they are called and what
they hold does not depend on which rows come first.
"""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec
import polars as pl
import pyarrow as pa

from trueline.domain.contracts import INT64_MAX
from trueline.errors import InvalidData

PIECE_ROWS = 16_384
PIECE_BYTES = 4 << 20  # of text, which is several times as much in Python's objects
LINE_BYTES = 64 << 20
AS_JSON = {b"trueline": b"json"}
"""Marks a column of mixed or nested values, which hold JSON as text; JSON lines get the values back."""

Row = dict[str, Any]
Columns = dict[str, list[Any]]
_several = msgspec.json.Decoder(dict[str, Any]).decode_lines
_encode = msgspec.json.Encoder(decimal_format="number").encode_lines
_one = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Said:
    """The rows of a piece as JSON has them: `UNSET` where a row has no such column, and why a line is no row."""

    columns: Columns
    odd: dict[int, str]


@dataclass
class Survey:
    """The columns of JSON lines, in the order in which they come up; types of those that no contract speaks for."""

    own: Collection[str] = ()  # the model's
    types: dict[str, set[type[Any]]] = field(default_factory=dict)

    def take(self, rows: Iterable[Row]) -> None:
        types, own = self.types, frozenset(self.own)
        for row in rows:
            if not row.keys() <= types.keys():
                for name in row:
                    types.setdefault(name, set())
            for name in row.keys() - own:
                value = row[name]
                wide = type(value) is int and not -INT64_MAX - 1 <= value <= INT64_MAX
                types[name].add(object if wide else type(value))

    def table(self, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
        """Those columns as they are carried over; the model's own are left empty, for the contract has types for them."""
        made = {name: self._array(name, values) for name, values in columns.items()}
        rows = len(next(iter(columns.values()), ()))
        fields = [
            pa.field(name, pa.null() if array is None else array.type, metadata=AS_JSON if self._mixed(name) else None)
            for name, array in made.items()
        ]
        arrays = [pa.nulls(rows) if array is None else array for array in made.values()]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def _kinds(self, name: str) -> set[type[Any]]:
        return self.types.get(name, set()) - {type(None)}

    def _mixed(self, name: str) -> bool:
        return name not in self.own and bool(self._kinds(name)) and self._plain(name) is None

    def _plain(self, name: str) -> pa.DataType | None:
        """The one type of all its values, where there is one."""
        kinds = self._kinds(name)
        if kinds == {int, float}:
            return pa.float64()
        simple = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
        return simple.get(next(iter(kinds))) if len(kinds) == 1 else None

    def _array(self, name: str, values: Sequence[Any]) -> pa.Array | None:
        if name in self.own or not self._kinds(name):
            return None
        there = [None if value is msgspec.UNSET else value for value in values]
        dtype = self._plain(name)
        if dtype is None:
            text = [None if value is None else msgspec.json.encode(value).decode() for value in there]
            return pa.array(text, pa.string())
        if dtype == pa.float64():
            there = [None if value is None else float(value) for value in there]
        return pa.array(there, dtype)


def blocks(path: Path, name: str) -> Iterator[tuple[bytes, float]]:
    """Whole lines of a file, some megabytes at a time, and the share of it that has been read."""
    size = path.stat().st_size
    with path.open("rb") as raw:
        text: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if path.name.lower().endswith(".gz") else raw
        left = text.read(3).removeprefix(b"\xef\xbb\xbf")
        while more := text.read(PIECE_BYTES):
            whole, line, left = (left + more).rpartition(b"\n")
            if line:
                yield whole + line, min(1.0, raw.tell() / size)
            elif len(left) > LINE_BYTES:
                raise InvalidData(
                    f"{name} has a line of more than {LINE_BYTES >> 20} MB; JSON lines have one row on each line"
                )
        if left.strip():
            yield left, 1.0


def rows_of(block: bytes) -> Iterator[tuple[list[Row], dict[int, str]]]:
    """The rows of some lines, and why those that are none are not: an empty row stands for them."""
    lines = [line for line in block.split(b"\n") if line.strip()]
    for start in range(0, len(lines), PIECE_ROWS):
        some = lines[start : start + PIECE_ROWS]
        try:
            rows = _several(b"\n".join(some))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            rows = []
        if len(rows) == len(some):
            yield rows, {}
        else:
            read = [_row(line) for line in some]
            odd = {number: row for number, row in enumerate(read) if isinstance(row, str)}
            yield [row if isinstance(row, dict) else {} for row in read], odd


def said(rows: Sequence[Row], odd: dict[int, str], names: Iterable[str]) -> Said:
    return Said({name: [row.get(name, msgspec.UNSET) for row in rows] for name in names}, odd)


def marked(schema: pa.Schema, source: pa.Schema) -> pa.Schema:
    """A schema whose columns have the marks that those of the source have."""
    for place, name in enumerate(schema.names):
        if name in source.names and source.field(name).metadata == AS_JSON:
            schema = schema.set(place, schema.field(place).with_metadata(AS_JSON))
    return schema


def write(file: IO[bytes], table: pa.Table) -> None:
    """Each row as an object on a line."""
    columns = []
    for field_, column in zip(table.schema, table.columns, strict=True):
        values = pl.Series(column).to_list()
        if field_.metadata == AS_JSON:
            values = [None if value is None else msgspec.Raw(value.encode()) for value in values]
        columns.append(values)
    names = table.column_names
    file.write(_encode([dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]))


def _row(line: bytes) -> Row | str:
    """A row, or what is wrong with its line."""
    try:
        found = _one(line)
    except RecursionError:
        return "it is nested too deeply; a row is one object of plain values"
    except (msgspec.MsgspecError, ValueError) as problem:
        what = str(problem).removeprefix("JSON is malformed: ").partition(" - at `$")[0]
        if b"NaN" in line or b"Infinity" in line:
            what += "; JSON has neither NaN nor Infinity, write null for a missing value"
        return f"it is not valid JSON ({what}); each line is a row"
    return found if isinstance(found, dict) else "expected an object of columns on the line"
