"""Open Inference Protocol v2 in JSON: tensors by name in, tensors by name out.

Each input is one column of the contract, of shape [n] or [n, 1], its data flat or nested. One input of shape [n, k]
is taken as all k columns of the model, in its order, which is how clients send a matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from math import prod
from typing import Any

import msgspec

from trueline.domain.contracts import Column, Kind
from trueline.errors import InvalidInput
from trueline.packaging.signature import Signature
from trueline.serving.dataplane import Answer, Call
from trueline.serving.responses import encode as to_json

MOST_DIMENSIONS = 8

_INTEGERS = {f"{sign}INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if not sign else (0, 2**bits - 1)
             for sign in ("", "U") for bits in (8, 16, 32, 64)}  # fmt: skip
_FLOATS = frozenset({"FP16", "FP32", "FP64"})
DATATYPES: dict[Kind, str] = {
    Kind.integer: "INT64",
    Kind.float32: "FP32",
    Kind.float64: "FP64",
    Kind.string: "BYTES",
    Kind.boolean: "BOOL",
    Kind.datetime: "BYTES",
}
_WORDS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null", dict: "object"}


class Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] | None = None


class Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    inputs: list[Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[Output] | None = None


_decode = msgspec.json.Decoder(InferRequest).decode


def decode(body: bytes, signature: Signature) -> Call:
    """The call of an infer request to a model of this signature."""
    try:
        request = _decode(body)
    except RecursionError:
        raise InvalidInput("the body is nested too deeply") from None
    except (msgspec.DecodeError, ValueError) as problem:
        raise InvalidInput(f"the body is not an inference request: {problem}") from None
    for output in request.outputs or ():
        if output.name != signature.output:
            raise InvalidInput(f"output '{output.name}': the model has no such output; it has '{signature.output}'")
    if not request.inputs:
        raise InvalidInput("'inputs' is empty; send one tensor for each column of the model")
    columns: dict[str, list[Any]] = {}
    for tensor in request.inputs:
        for name, values in _columns(tensor, signature, alone=len(request.inputs) == 1):
            if name in columns:
                raise InvalidInput(f"input '{name}': is given twice")
            columns[name] = values
    return Call(columns, len(next(iter(columns.values()))), client_id=request.id)


def encode(answer: Answer, output: str) -> bytes:
    return to_json(
        {
            "model_name": answer.model,
            "model_version": str(answer.version),
            "id": answer.client_id or answer.request_id,
            "parameters": {"request_id": answer.request_id},
            "outputs": [
                {"name": output, "shape": [len(answer.outputs), 1], "datatype": "FP64", "data": answer.outputs}
            ],
        }
    )


def server_metadata() -> dict[str, Any]:
    return {"name": "trueline", "version": version("trueline"), "extensions": []}


def model_metadata(model: str, versions: Sequence[int], kind: str, signature: Signature) -> dict[str, Any]:
    return {
        "name": model,
        "versions": [str(number) for number in versions],
        "platform": "onnx_onnxv1" if kind == "onnx" else f"sklearn_{kind}",
        "inputs": [
            {"name": column.name, "datatype": DATATYPES[column.kind], "shape": [-1, 1]} for column in signature.inputs
        ],
        "outputs": [{"name": signature.output, "datatype": "FP64", "shape": [-1, 1]}],
    }


def _columns(tensor: Input, signature: Signature, *, alone: bool) -> Iterator[tuple[str, list[Any]]]:
    shape = tensor.shape
    if not 1 <= len(shape) <= MOST_DIMENSIONS or min(shape) < 0:
        raise InvalidInput(f"input '{tensor.name}': expected shape [rows, 1], got {shape}")
    values = _flat(tensor.data)
    if len(values) != prod(shape):
        raise InvalidInput(f"input '{tensor.name}': shape {shape} needs {prod(shape)} values, got {len(values)}")
    if not values:
        raise InvalidInput(f"input '{tensor.name}': has no rows; send at least one")
    _check_datatype(tensor, values)
    width = prod(shape[1:])
    if width == 1:
        yield tensor.name, values
    elif alone and len(shape) == 2 and width == len(signature.inputs):
        for place, column in enumerate(signature.inputs):
            yield column.name, _as_kind(column, values[place::width])
    else:
        expected = f"[rows, 1], or one input of [rows, {len(signature.inputs)}]"
        raise InvalidInput(f"input '{tensor.name}': expected shape {expected}, got {shape}")


def _as_kind(column: Column, values: list[Any]) -> list[Any]:
    """A matrix has one datatype for all columns: 1.0 is an integer, and 1 and 0 are booleans there."""
    if column.kind is Kind.boolean and all(value in (0, 1) for value in values):
        return [bool(value) for value in values]
    return values


def _flat(data: list[Any]) -> list[Any]:
    """Row-major data without its nesting."""
    for _ in range(MOST_DIMENSIONS):
        if not any(type(value) is list for value in data):
            return data
        data = [one for value in data for one in (value if type(value) is list else (value,))]
    raise InvalidInput(f"a tensor has at most {MOST_DIMENSIONS} dimensions; the data is nested deeper")


def _check_datatype(tensor: Input, values: list[Any]) -> None:
    """The values are of the declared type; null passes, the contract judges it."""
    datatype = tensor.datatype
    if datatype in _INTEGERS:
        low, high = _INTEGERS[datatype]
        for row, value in enumerate(values):
            if value is not None and (type(value) is not int or not low <= value <= high):
                raise InvalidInput(_mismatch(tensor, value, row))
        return
    if datatype in _FLOATS:
        allowed: frozenset[type] = frozenset({float, int, type(None)})
    elif datatype == "BYTES":
        allowed = frozenset({str, type(None)})
    elif datatype == "BOOL":
        allowed = frozenset({bool, type(None)})
    else:
        known = ", ".join(["BOOL", *_INTEGERS, "FP16", "FP32", "FP64", "BYTES"])
        raise InvalidInput(f"input '{tensor.name}': unknown datatype '{datatype}'; known are {known}")
    for row, value in enumerate(values):
        if type(value) not in allowed:
            raise InvalidInput(_mismatch(tensor, value, row))


def _mismatch(tensor: Input, value: Any, row: int) -> str:
    what = f"{value}" if type(value) is int else _WORDS.get(type(value), "something else")
    return f"input '{tensor.name}': expected {tensor.datatype}, got {what} at row {row}"
