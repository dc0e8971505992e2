"""The contract read off data, kept in a file people review, and applied to frames.

`infer` writes down what was seen, once (see `contract_infer`); from then on the file is the truth and people change it. Nothing personal goes
into it: a personal column has neither range nor categories there. The file says one column per block, and an error in it
is told with its line and column.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import yaml

from trueline.data.contract_infer import infer
from trueline.data.timestamps import TIMESTAMP, as_utc
from trueline.domain import contracts
from trueline.domain.contracts import FLOATS, Column, Contract, Kind, UnknownColumns
from trueline.errors import InvalidData

__all__ = ["cast", "infer", "read", "read_bytes", "schema", "write"]

Parsed = TypeVar("Parsed")

DTYPES: dict[Kind, pl.DataType] = {
    Kind.integer: pl.Int64(),
    Kind.float32: pl.Float32(),
    Kind.float64: pl.Float64(),
    Kind.string: pl.String(),
    Kind.boolean: pl.Boolean(),
    Kind.datetime: TIMESTAMP,
}

HEADER = """\
# What the rows of this project's data hold: checked at ingest, in training and at serving.
# Read off the data once; correct it freely. Kinds: integer, float32, float64, string, boolean, datetime.
# A value of another kind, or null where `nullable` is not set, is refused. Leaving minimum, maximum, categories or
# unique is a warning, or refused too in a column that is `strict: true`. Columns marked `personal: true` are never shown.
"""


def schema(contract: Contract) -> dict[str, pl.DataType]:
    """The Polars types of the contract's columns, in its order."""
    return {column.name: DTYPES[column.kind] for column in contract.columns}


def cast(frame: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """The contract's columns in its order and types; what the frame lacks is null, what the contract lacks is dropped.

    NaN and the infinities become null. Nothing is guessed: a text is no number, a fraction no integer.
    """
    made = []
    for column in contract.columns:
        if column.name in frame.columns:
            made.append(_cast_column(frame[column.name], column))
        else:
            made.append(pl.Series(column.name, [None], dtype=DTYPES[column.kind]).new_from_index(0, frame.height))
    return pl.DataFrame(made)


def _cast_column(values: pl.Series, column: Column) -> pl.Series:
    target, dtype = DTYPES[column.kind], values.dtype
    if dtype == target and column.kind not in FLOATS:
        return values
    if values.null_count() == values.len():
        return pl.Series(values.name, [None], dtype=target).new_from_index(0, values.len())
    made: pl.Series | None = None
    if column.kind is Kind.integer and dtype.is_numeric():
        made = values.cast(pl.Int64, strict=False)
        if dtype.is_float() and (made.cast(dtype) != values).any():
            made = None
    elif column.kind in FLOATS and dtype.is_numeric():
        made = values.cast(target)
        made = made.set(~made.is_finite(), None)
    elif column.kind is Kind.string and dtype in (pl.Categorical, pl.Enum):
        made = values.cast(pl.String)
    elif column.kind is Kind.datetime:
        made = _timestamps(values)
    if made is None or (column.kind not in FLOATS and made.null_count() > values.null_count()):
        raise InvalidData(f"column '{column.name}' holds {dtype}, which cannot become the contract's {column.kind}")
    return made


def _timestamps(values: pl.Series) -> pl.Series | None:
    dtype = values.dtype
    if isinstance(dtype, pl.Datetime):
        zoned = values.dt.replace_time_zone("UTC") if dtype.time_zone is None else values.dt.convert_time_zone("UTC")
        return zoned.cast(TIMESTAMP)
    if dtype == pl.Date:
        return values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        check = contracts.compile_column(Column("", Kind.datetime))
        texts = [text for text in values.drop_nulls().unique() if check(text) is None]
        meanings = {text: as_utc(datetime.fromisoformat(text)) for text in texts}
        return values.cast(pl.String).replace_strict(meanings, default=None, return_dtype=TIMESTAMP)
    return None


def write(path: Path, contract: Contract) -> None:
    """Put the contract where people review it; by rename, so that a reader never sees half of it."""
    text = HEADER + f"unknown_columns: {contract.unknown_columns}\ncolumns:\n"
    for column in contract.columns:
        lines = yaml.dump(
            contracts.column_to_dict(column), Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True
        )
        first, *rest = lines.rstrip("\n").split("\n")
        text += "\n".join([f"- {first}", *(f"  {line}" for line in rest)]) + "\n"
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def read_bytes(path: Path) -> bytes:
    """A contract's file as it stands.

    Raises:
        InvalidData: it cannot be read.
    """
    try:
        return path.read_bytes()
    except IsADirectoryError as problem:
        raise InvalidData(f"the contract {path} is a folder; take it away") from problem
    except OSError as problem:
        raise InvalidData(f"the contract {path} cannot be read ({problem.strerror})") from problem


def read(path: Path) -> Contract:
    """The contract of a file; whatever is wrong with it is told with its line and column."""
    try:
        text = read_bytes(path).decode()
    except UnicodeDecodeError as problem:
        raise InvalidData(f"the contract {path} cannot be read ({problem}); save it as UTF-8") from problem
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        raise InvalidData(f"{path}{where}: {problem.problem or 'this is not YAML'}") from problem
    except yaml.YAMLError as problem:
        raise InvalidData(f"{path}: this is not YAML ({str(problem).splitlines()[0]})") from problem
    return _Reader(path).contract(root)


class _Dumper(yaml.SafeDumper):
    """Lists (of categories) on one line, and what cannot be seen in a text escaped."""


_Dumper.add_representer(
    list, lambda dumper, values: dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)
)
_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"'
    ),
)


class _Reader:
    """Turns nodes, which know where they stand, into a contract."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def contract(self, root: yaml.Node | None) -> Contract:
        if not isinstance(root, yaml.MappingNode):
            raise InvalidData(f"{self._path}: a contract needs a list 'columns'")
        top = self._pairs(root)
        for name, (key, _) in top.items():
            if name not in ("columns", "unknown_columns"):
                raise self._wrong(key, f"unknown key '{name}'; known are unknown_columns, columns")
        listed = top.get("columns")
        if listed is None or not isinstance(listed[1], yaml.SequenceNode) or not listed[1].value:
            raise self._wrong(root if listed is None else listed[1], "a contract needs a list 'columns'")
        policy = str(UnknownColumns.warn)
        if "unknown_columns" in top:
            node = top["unknown_columns"][1]
            policy = self._checked(
                node, lambda: contracts.from_dict({"unknown_columns": self._value(node), "columns": []}).unknown_columns
            )
        columns: dict[str, Column] = {}
        for node in listed[1].value:
            column = self._column(node)
            if column.name in columns:
                raise self._wrong(node, f"column '{column.name}' is already described above; each column appears once")
            columns[column.name] = column
        return Contract(tuple(columns.values()), policy)

    def _column(self, node: yaml.Node) -> Column:
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, "a contract column needs a 'name' that is text")
        pairs = self._pairs(node)
        plain: dict[str, Any] = {}
        for name in ("name", "kind"):
            if name in pairs:
                plain[name] = self._value(pairs[name][1])
        self._checked(pairs.get("kind", (node, node))[1], lambda: contracts.column_from_dict(plain))
        for name, (key, value) in pairs.items():
            plain[name] = self._value(value)
            column = self._checked(key, lambda: contracts.column_from_dict(plain))
        return column

    def _pairs(self, node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            name = str(self._value(key))
            if name in found:
                raise self._wrong(key, f"'{name}' stands here twice")
            found[name] = (key, value)
        return found

    def _value(self, node: yaml.Node) -> Any:
        try:
            return _construct(node)
        except (yaml.YAMLError, ValueError) as problem:
            raise self._wrong(node, f"this value cannot be read ({str(problem).splitlines()[0]})") from problem

    def _checked(self, node: yaml.Node, parse: Callable[[], Parsed]) -> Parsed:
        try:
            return parse()
        except InvalidData as problem:
            raise self._wrong(node, str(problem)) from None

    def _wrong(self, node: yaml.Node, what: str) -> InvalidData:
        return InvalidData(f"{self._path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}: {what}")


def _construct(node: yaml.Node) -> Any:
    return yaml.constructor.SafeConstructor().construct_object(node, deep=True)
