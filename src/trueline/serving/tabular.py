"""Rows and columns as the older protocols send them (MLflow's `/invocations`, KServe v1), made into a call's columns.

All of them stand for a pandas frame: a column that a record lacks is null there, and lists without names are the
model's columns in its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trueline.errors import InvalidInput
from trueline.packaging.signature import Signature
from trueline.serving.dataplane import Call


def from_rows(rows: Any, signature: Signature, where: str) -> Call:
    """Rows as objects of columns, or as lists of values, or (for a model of one column) as values."""
    if not isinstance(rows, list):
        raise InvalidInput(f"{where} must be a list of rows")
    if not rows:
        raise InvalidInput(f"{where} has no rows; send at least one")
    if type(rows[0]) is dict:
        return from_records(rows, where)
    return from_lists(signature.names, rows, where)


def from_records(rows: Any, where: str) -> Call:
    """Objects of columns; one that lacks a column that another has is null there."""
    if not isinstance(rows, list) or not rows:
        raise InvalidInput(f"{where} must be a list of at least one row, each an object of columns")
    for number, row in enumerate(rows):
        if type(row) is not dict:
            raise InvalidInput(f"{where}: expected an object of columns at row {number}")
    names = dict.fromkeys(name for row in rows for name in row)
    return Call({name: [row.get(name) for row in rows] for name in names}, len(rows))


def from_lists(names: Sequence[str], rows: Any, where: str) -> Call:
    """Lists of values in the order of `names`; a value alone is a row of one column."""
    if not isinstance(rows, list) or not rows:
        raise InvalidInput(f"{where} must be a list of at least one row, each a list of values")
    width = len(names)
    if width == 1:
        rows = [row if type(row) is list else [row] for row in rows]
    for number, row in enumerate(rows):
        if type(row) is not list:
            raise InvalidInput(f"{where}: expected a list of {width} values at row {number}")
        if len(row) != width:
            raise InvalidInput(f"{where}: expected {width} values ({_some(names)}), got {len(row)} at row {number}")
    return Call({name: [row[place] for row in rows] for place, name in enumerate(names)}, len(rows))


def from_columns(columns: dict[str, Any], where: str) -> Call:
    """An object of columns, each a list of values (or of lists of one value); or all of them values: one row."""
    if not columns:
        raise InvalidInput(f"{where} has no columns")
    if not any(type(values) is list for values in columns.values()):
        return Call({name: [value] for name, value in columns.items()}, 1)
    found: dict[str, list[Any]] = {}
    for name, values in columns.items():
        if type(values) is not list:
            raise InvalidInput(f"input '{name}': expected a list of values, as other inputs have")
        found[name] = [value[0] if type(value) is list and len(value) == 1 else value for value in values]
    rows = len(next(iter(found.values())))
    if rows == 0:
        raise InvalidInput(f"{where} has no rows; send at least one")
    return Call(found, rows)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:5])} and {len(names) - 5} more"
