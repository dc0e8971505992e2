"""Rows of a piece as the model takes them: judged by the contract's rules, then handed over as a server would.

The server judges value by value, here it is done column by column; both say the rules of `domain/contracts.py`, and a
property test holds them together. What the executor is given has to be the same numbers to the last bit: a value goes
from the file's type to the model's in one rounding, as it does when JSON carries it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pyarrow as pa
from msgspec import UNSET

from trueline.data import contract_frames
from trueline.data.sources import NOTHING
from trueline.domain.contracts import (
    FLOATS,
    NUMBERS,
    Column,
    Contract,
    Kind,
    Level,
    UnknownColumns,
    compile_column,
    missing,
)
from trueline.errors import InvalidInput
from trueline.packaging.signature import Signature
from trueline.scoring.lines import Said

EXACT = 2**53
"""Whole numbers beyond it are rounded when they become float64, so they are handed over one by one, as Python's own."""

Columns = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """`refused` is true where a row may not be given to the model; `doubtful` counts values not seen in training."""

    frame: pl.DataFrame  # the model's inputs
    refused: pl.Series
    doubtful: dict[str, int]
    texts: pl.DataFrame | None  # the inputs as they stood in a CSV file
    said: Said | None = None  # as they stood in JSON lines


class Rules:
    """The rules for the inputs of one model."""

    def __init__(self, signature: Signature) -> None:
        columns = tuple(replace(column, unique=False) for column in signature.inputs)  # a server sees rows one by one
        self._contract = Contract(columns, UnknownColumns.ignore)
        self._names = list(signature.names)
        self._allowed = signature.allowed

    def check_names(self, names: Sequence[str], where: str) -> None:
        """Refuse a file that has not the columns."""
        missing = [name for name in self._names if name not in names]
        if missing:
            which = f"column '{missing[0]}'" if len(missing) == 1 else "columns " + ", ".join(map(repr, missing[:10]))
            raise InvalidInput(f"{where} has no {which}, which the model needs; it has {', '.join(names)}")
        if self._allowed is not None and (odd := [name for name in names if name not in self._allowed]):
            raise InvalidInput(
                f"{where} has the column '{odd[0]}', which is not in the contract, and that forbids unknown columns"
            )

    def judge(self, table: pa.Table, *, texts: bool, said: Said | None = None) -> Judged:
        if said is not None:
            return self._judge_said(said)
        raw = _frame(table.select(self._names))
        frame, unread = typed(raw, self._contract.columns) if texts else (raw, {})
        refused, doubtful = contract_frames.refused(frame, self._contract)
        for mask in unread.values():
            refused = refused | mask
        return Judged(frame, refused, doubtful, raw if texts else None)

    def _judge_said(self, said: Said) -> Judged:
        frame, unread = of_json(said.columns, self._contract.columns)
        refused, doubtful = contract_frames.refused(frame, self._contract)
        for mask in unread.values():
            refused = refused | mask
        if said.odd:
            refused[list(said.odd)] = True
        return Judged(frame, refused, doubtful, None, said)

    def _problem_said(self, said: Said, row: int) -> str:
        if row in said.odd:
            return said.odd[row]
        values = {name: said.columns[name][row] for name in self._names}
        if absent := [name for name, value in values.items() if value is UNSET]:
            return missing(absent)
        return self._first(values)

    def problem(self, judged: Judged, row: int) -> str:
        """What is wrong with a refused row, in the words of the contract."""
        if judged.said is not None:
            return self._problem_said(judged.said, row)
        values = judged.frame.row(row, named=True)
        if judged.texts is not None:
            said = judged.texts.row(row, named=True)
            values |= {name: _meant(said[name]) for name, value in values.items() if value is None}
        return self._first(values)

    def _first(self, values: Mapping[str, Any]) -> str:
        first = next(one for one in self._contract.check_row(values) if one.level is Level.error)
        return f"input '{first.column}': {first.problem}"


def typed(frame: pl.DataFrame, columns: Sequence[Column]) -> tuple[pl.DataFrame, dict[str, pl.Series]]:
    """Text in the contract's kinds; and for each column the rows whose text is no value of its kind, which are null."""
    made, unread = [], {}
    for column in columns:
        said = frame[column.name]
        if column.kind in NUMBERS:
            said = said.set(said.is_in(NOTHING).fill_null(value=False), None)
        value = _parsed(said, column.kind)
        made.append(value)
        if value.null_count() > said.null_count():
            unread[column.name] = value.is_null() & said.is_not_null()
    return pl.DataFrame(made), unread


def _parsed(said: pl.Series, kind: Kind) -> pl.Series:
    if kind is Kind.boolean:
        words = {"true": True, "false": False}
        return said.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)
    if kind in FLOATS:
        return said.cast(pl.Float64, strict=False)
    if kind is not Kind.integer:
        return said
    whole = said.cast(pl.Int64, strict=False)
    if whole.null_count() == said.null_count():
        return whole
    wide = said.cast(pl.Float64, strict=False)  # 3.0 is a whole number too
    integral = (wide.floor() == wide) & (wide >= -(2.0**63)) & (wide < 2.0**63)
    return whole.zip_with(whole.is_not_null(), wide.set(~integral.fill_null(value=False), None).cast(pl.Int64))


def of_json(columns: Mapping[str, list[Any]], kinds: Sequence[Column]) -> tuple[pl.DataFrame, dict[str, pl.Series]]:
    """As `typed`, from values as JSON has them; one that is missing is no value either, though null may be one."""
    made, unread = [], {}
    for column in kinds:
        values = columns[column.name]
        types = set(map(type, values))
        if not types <= _PLAIN[column.kind]:
            check = compile_column(column)
            bad = [value is UNSET or check(value) is not None for value in values]
            unread[column.name] = pl.Series(bad, dtype=pl.Boolean)
            values = [None if wrong else value for value, wrong in zip(values, bad, strict=True)]
        number = int if column.kind is Kind.integer else float
        if column.kind in NUMBERS and types - {number, type(None)}:  # 3.0 is a whole number too, and 3 a float
            values = [None if value is None else number(value) for value in values]
        made.append(pl.Series(column.name, values, dtype=_TYPES[column.kind]))
    return pl.DataFrame(made), unread


_TYPES = dict.fromkeys(FLOATS, pl.Float64) | {
    Kind.integer: pl.Int64,
    Kind.boolean: pl.Boolean,
    Kind.string: pl.String,
    Kind.datetime: pl.String,
}
_PLAIN: dict[Kind, set[type[Any]]] = {
    Kind.float32: {float, type(None)},
    Kind.float64: {float, type(None)},
    Kind.integer: set(),  # one of more than 64 bits is for the contract to refuse
    Kind.boolean: {bool, type(None)},
    Kind.string: {str, type(None)},
    Kind.datetime: {str, type(None)},
}
"""Values of these types need no look by the contract's row rules: those for whole frames see all that can be wrong."""


def _meant(text: str | None) -> Any:
    """The value that a refused text is told as: a number where it is one."""
    if text is None or text in NOTHING:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _frame(table: pa.Table) -> pl.DataFrame:
    """In Polars; decimals as the floats that training made of them."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  what a table becomes
    decimals = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Decimal)]
    return frame.with_columns(pl.col(decimals).cast(pl.Float64)) if decimals else frame


def columns_of(frame: pl.DataFrame, *, arrays: bool) -> Columns:
    """Columns for the executor; `arrays` where it makes tensors of them anyway, else values as JSON carries them."""
    return {column.name: _array(column) if arrays else _values(column) for column in frame}


def _array(column: pl.Series) -> Any:
    dtype = column.dtype
    if dtype.is_float():
        return column.fill_null(float("nan")).to_numpy() if column.null_count() else column.to_numpy()
    if dtype == pl.Boolean and not column.null_count():
        return column.to_numpy()
    if dtype.is_integer() and not column.null_count():
        extremes = (column.min(), column.max())
        if all(isinstance(one, int) and -EXACT <= one <= EXACT for one in extremes):
            return column.to_numpy()
    return _values(column)


def _values(column: pl.Series) -> list[Any]:
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    return column.to_list()


def accepted(judged: Judged, inputs: Sequence[Column]) -> pl.DataFrame:
    """The rows that the model may be given: NaN and the infinities are null, and integers that a file has as floats are integers."""
    frame = judged.frame if not judged.refused.any() else judged.frame.filter(~judged.refused)
    made = []
    for column in inputs:
        dtype, it = frame.schema[column.name], pl.col(column.name)
        if column.kind is Kind.integer and dtype != pl.Int64:
            made.append(it.cast(pl.Int64))
        elif column.kind in FLOATS and dtype.is_float() and not frame[column.name].is_finite().all():
            made.append(pl.when(it.is_finite()).then(it))
    return frame.with_columns(made) if made else frame
