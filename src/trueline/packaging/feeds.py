"""Columns as they come from a request or a table, made into the tensors an ONNX session takes.

A batch is usually one to a few rows, so what counts is the number of NumPy calls, not the size of the arrays. A model
of numbers only takes one matrix (one call); a model that also reads strings takes one tensor per column.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueline.domain.contracts import Column, Kind

MATRIX = "matrix"
COLUMNS = "columns"
MATRIX_INPUT = "X"
NULL_TEXT = "\ue000"  # a null in a string tensor, which knows none: a private character, so that '' stays itself

Columns = Mapping[str, Sequence[Any]]
Feed = Callable[[Columns], dict[str, NDArray[Any]]]
Rows = Sequence[tuple[Any, ...]]
"""Values in the order of the signature's inputs."""
RowFeed = Callable[[Rows], dict[str, NDArray[Any]]]


def tensor_type(column: Column, precision: str) -> type[Any]:
    """The element type a column travels in; a nullable integer travels as a float so that a null can be NaN."""
    if column.kind is Kind.string:
        return object
    if column.kind in (Kind.integer, Kind.boolean) and not column.nullable:
        return np.int64
    return float_type(precision)


def float_type(precision: str) -> type[Any]:
    return np.float64 if precision == "float64" else np.float32


def feed(inputs: Sequence[Column], layout: str, precision: str) -> Feed:
    """The function from columns to tensors for one model; nulls in number columns become NaN, in strings NULL_TEXT."""
    if layout == MATRIX:
        return _matrix([column.name for column in inputs], float_type(precision))
    return _tensors([(column.name, tensor_type(column, precision)) for column in inputs])


def row_feed(inputs: Sequence[Column], layout: str, precision: str) -> RowFeed:
    """As `feed`, from rows: what single-row requests are when they arrive."""
    if layout == MATRIX:
        return _matrix_of_rows(len(inputs), float_type(precision))
    by_column = feed(inputs, layout, precision)
    names = [column.name for column in inputs]
    return lambda rows: by_column(dict(zip(names, zip(*rows, strict=True), strict=True)))


def _matrix_of_rows(width: int, dtype: type[Any]) -> RowFeed:
    """One matrix. Packing a row as C floats takes half the time of NumPy's own look at each value; a null it refuses."""
    pack = struct.Struct(f"={width}{'d' if dtype is np.float64 else 'f'}").pack

    def build(rows: Rows) -> dict[str, NDArray[Any]]:
        try:
            packed = b"".join([pack(*row) for row in rows])
        except (struct.error, OverflowError):  # a null, or beyond float32
            return {MATRIX_INPUT: np.array(rows, dtype)}
        return {MATRIX_INPUT: np.frombuffer(packed, dtype).reshape(len(rows), width)}

    return build


def _matrix(names: Sequence[str], dtype: type[Any]) -> Feed:
    if len(names) == 1:
        (only,) = names
        return lambda columns: {MATRIX_INPUT: np.array(columns[only], dtype).reshape(-1, 1)}
    pick = itemgetter(*names)
    width = len(names)

    def build(columns: Columns) -> dict[str, NDArray[Any]]:
        by_column = np.array(pick(columns), dtype)
        if by_column.size == width:  # one row: the transposed matrix is the same memory
            return {MATRIX_INPUT: by_column.reshape(1, width)}
        return {MATRIX_INPUT: np.ascontiguousarray(by_column.T)}

    return build


def _tensors(types: Sequence[tuple[str, type[Any]]]) -> Feed:
    def build(columns: Columns) -> dict[str, NDArray[Any]]:
        return {
            name: _strings(columns[name]) if dtype is object else np.array(columns[name], dtype)
            for name, dtype in types
        }

    return build


def _strings(values: Sequence[Any]) -> NDArray[Any]:
    column = np.array(values, dtype=object)
    if None in values:
        column[column == None] = NULL_TEXT  # noqa: E711  elementwise
    return column
