"""The inputs of Open Inference v2: a tensor as JSON or raw bytes, made into columns of the model.

What is wrong with one is said of its name and its row. Two short cuts lead past the closer look, for what most clients
send: `plain_rows` for a whole request that `plain.py` can judge, `plainly_one_column` for one tensor.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trueline.domain.contracts import INT64_MAX, Kind
from trueline.errors import InvalidInput, NotSupported
from trueline.packaging.signature import Signature
from trueline.serving import binary
from trueline.serving.plain import Plain, Row

MOST_DIMENSIONS = 8
PLAIN_ROWS = 64  # of more, columns are cheaper than rows
FLOATS = frozenset({"FP32", "FP64"})

DATATYPES: dict[Kind, str] = {
    Kind.integer: "INT64",
    Kind.float32: "FP32",
    Kind.float64: "FP64",
    Kind.string: "BYTES",
    Kind.boolean: "BOOL",
    Kind.datetime: "BYTES",
}
_PLAIN: Mapping[Kind, frozenset[str]] = {
    kind: FLOATS if datatype in FLOATS else frozenset({datatype}) for kind, datatype in DATATYPES.items()
}
_WORDS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null", dict: "object"}
HINTS: Mapping[str, frozenset[str] | None] = {  # content_type: the datatypes it goes with, None for all
    "np": None,
    "pd": None,
    "str": frozenset({"BYTES"}),
    "base64": frozenset({"BYTES"}),
    "datetime": frozenset({"BYTES"}),
}


@dataclass(frozen=True, slots=True)
class _Allowed:
    """What JSON may hold for a datatype; null passes, the contract judges it."""

    types: frozenset[type]
    low: int | None = None
    high: int | None = None

    def __call__(self, value: Any) -> bool:
        if type(value) not in self.types:
            return False
        return self.low is None or self.high is None or value is None or self.low <= value <= self.high

    def all(self, values: list[Any]) -> bool:
        """The same for many, without a call for each."""
        if not self.types.issuperset(map(type, values)):
            return False
        if self.low is None or self.high is None:
            return True
        numbers = [value for value in values if value is not None]
        return not numbers or (min(numbers) >= self.low and max(numbers) <= self.high)


def _allowed(datatype: str, dtype: np.dtype[Any]) -> _Allowed:
    if datatype == "BOOL":
        return _Allowed(frozenset({bool, type(None)}))
    if dtype.kind == "f":
        return _Allowed(frozenset({float, int, type(None)}))
    limits = np.iinfo(dtype)
    return _Allowed(frozenset({int, type(None)}), int(limits.min), int(limits.max))


_ALLOWED = {
    **{datatype: _allowed(datatype, dtype) for datatype, dtype in binary.DTYPES.items()},
    binary.TEXT: _Allowed(frozenset({str, type(None)})),
}


class Input(msgspec.Struct):
    name: str
    shape: list[Annotated[int, msgspec.Meta(le=INT64_MAX)]]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


def values_of(tensor: Input, raw: binary.Raw | None) -> list[Any] | NDArray[Any]:
    """The flat values of a tensor, of its datatype and as many as its shape says."""
    shape = tensor.shape
    if not 1 <= len(shape) <= MOST_DIMENSIONS or min(shape) < 0:
        raise InvalidInput(f"input '{tensor.name}': expected shape [rows, 1], got {shape}")
    values: list[Any] | NDArray[Any]
    if raw is not None:
        values = binary.array(tensor.name, tensor.datatype, shape, raw)
    elif tensor.data is None:
        raise _without_data(tensor)
    else:
        values = _flat(tensor.data)
        if len(values) != prod(shape):
            raise InvalidInput(f"input '{tensor.name}': shape {shape} needs {prod(shape)} values, got {len(values)}")
        _check_datatype(tensor, values)
    if not len(values):
        raise InvalidInput(f"input '{tensor.name}': has no rows; send at least one")
    hint = tensor.parameters.get("content_type") if tensor.parameters else None
    return values if hint is None else _hinted(tensor, hint, values)


def plain_rows(inputs: Sequence[Input], plain: Plain, signature: Signature) -> list[Row] | None:
    """The rows of a request that needs no closer look: one tensor for each column, or one matrix; None otherwise."""
    columns = signature.inputs
    if len(inputs) == 1 and len(columns) > 1:
        matrix = _matrix_rows(inputs[0], len(columns))
        return None if matrix is None else plain.of_values(matrix)
    by_name = {tensor.name: tensor for tensor in inputs}
    if not len(inputs) == len(columns) == len(by_name):
        return None
    rows = len(inputs[0].data or ())
    found: list[list[Any]] = []
    for column in columns:
        tensor = by_name.get(column.name)
        if tensor is None or tensor.parameters or tensor.datatype not in _PLAIN[column.kind] or tensor.data is None:
            return None
        if tensor.shape not in ([rows, 1], [rows]) or len(tensor.data) != rows:
            return None
        found.append(tensor.data)
    return plain.of_values(list(zip(*found, strict=True))) if 0 < rows <= PLAIN_ROWS else None


def plainly_one_column(tensor: Input) -> bool:
    """The short cut for what most clients send: flat data of its datatype, in a shape of one column, without hints."""
    data, shape = tensor.data, tensor.shape
    if not data or tensor.parameters or len(shape) > 2 or shape[:1] != [len(data)] or shape[1:] not in ([], [1]):
        return False
    allowed = _ALLOWED.get(tensor.datatype)
    return allowed is not None and allowed.all(data)


def _matrix_rows(tensor: Input, width: int) -> list[list[Any]] | None:
    """The rows of a tensor that is plainly a matrix of that width."""
    data, shape = tensor.data, tensor.shape
    allowed = _ALLOWED.get(tensor.datatype)
    if (
        not data
        or len(data) > PLAIN_ROWS * width
        or tensor.parameters
        or len(shape) != 2
        or shape[1] != width
        or allowed is None
    ):
        return None
    if len(data) == shape[0] * width and allowed.all(data):
        return [data[start : start + width] for start in range(0, len(data), width)]
    if len(data) == shape[0] and all(type(row) is list and len(row) == width and allowed.all(row) for row in data):
        return data
    return None


def columns_of(
    tensor: Input, values: list[Any] | NDArray[Any], signature: Signature, *, alone: bool
) -> dict[str, list[Any]]:
    shape, names = tensor.shape, signature.names
    if prod(shape[1:]) == 1 and not (alone and shape == [len(names)] and tensor.name not in names):
        listed = values if isinstance(values, list) else values.tolist()
        return _with_nulls({tensor.name: listed}, values, signature)
    width = len(names)
    if not (alone and (prod(shape[1:]) == width or shape == [width])):
        expected = f"[rows, 1], or one input of [rows, {width}]"
        raise InvalidInput(f"input '{tensor.name}': expected shape {expected}, got {shape}")
    if isinstance(values, list):
        found = {name: values[place::width] for place, name in enumerate(names)}
    else:
        found = dict(zip(names, values.reshape(-1, width).T.tolist(), strict=True))
    for column in signature.inputs:
        if column.kind is Kind.boolean:
            found[column.name] = _as_booleans(found[column.name])
    return _with_nulls(found, values, signature)


def _with_nulls(
    columns: dict[str, list[Any]], values: list[Any] | NDArray[Any], signature: Signature
) -> dict[str, list[Any]]:
    """Raw bytes can hold what JSON cannot: a number that is none. It is null where that may be."""
    if isinstance(values, list) or values.dtype.kind != "f" or np.isfinite(values).all():
        return columns
    firm = {column.name for column in signature.inputs if not column.nullable}
    return {
        name: column if name in firm else [value if isfinite(value) else None for value in column]
        for name, column in columns.items()
    }


def _as_booleans(values: list[Any]) -> list[Any]:
    """A matrix has one datatype for all columns: 1 and 0 are booleans there (and 1.0 is an integer anyway)."""
    return [bool(value) for value in values] if all(value in (0, 1) for value in values) else values


def _flat(data: list[Any]) -> list[Any]:
    """Row-major data without its nesting."""
    for _ in range(MOST_DIMENSIONS):
        if list not in map(type, data):
            return data
        data = [one for value in data for one in (value if type(value) is list else (value,))]
    raise InvalidInput(f"a tensor has at most {MOST_DIMENSIONS} dimensions; the data is nested deeper")


def _check_datatype(tensor: Input, values: list[Any]) -> None:
    """The values are of the declared type."""
    allowed = _ALLOWED.get(tensor.datatype)
    if allowed is None:
        raise InvalidInput(f"input '{tensor.name}': unknown datatype '{tensor.datatype}'; known are {binary.KNOWN}")
    if allowed.all(values):
        return
    row, value = next((row, value) for row, value in enumerate(values) if not allowed(value))
    got = f"{value}" if type(value) is int else _WORDS.get(type(value), "something else")
    raise InvalidInput(f"input '{tensor.name}': expected {tensor.datatype}, got {got} at row {row}")


def _without_data(tensor: Input) -> Exception:
    parameters = tensor.parameters or {}
    if "shared_memory_region" in parameters:
        return NotSupported(f"input '{tensor.name}': shared memory is not supported here; send the data itself")
    if binary.SIZE in parameters:
        return InvalidInput(
            f"input '{tensor.name}': has a {binary.SIZE}, but no header Inference-Header-Content-Length says where the "
            "bytes begin"
        )
    return InvalidInput(f"input '{tensor.name}': has no data")


def _hinted(tensor: Input, hint: Any, values: list[Any] | NDArray[Any]) -> list[Any] | NDArray[Any]:
    """The values as a content_type means them."""
    if not isinstance(hint, str) or hint not in HINTS:
        raise InvalidInput(unknown_hint(f"input '{tensor.name}'", hint))
    datatypes = HINTS[hint]
    if datatypes is not None and tensor.datatype not in datatypes:
        raise InvalidInput(
            f"input '{tensor.name}': content_type '{hint}' goes with {', '.join(datatypes)}, not with {tensor.datatype}"
        )
    if hint != "base64":
        return values
    return [None if value is None else _unbase64(tensor.name, value, row) for row, value in enumerate(values)]


def _unbase64(name: str, value: str, row: int) -> str:
    try:
        return b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidInput(
            f"input '{name}': expected text in UTF-8 as base64, got something else at row {row}"
        ) from None


def unknown_hint(where: str, hint: Any) -> str:
    return f"{where}: content_type {str(hint)[:60]!r} is not known here; known are {', '.join(HINTS)}"
