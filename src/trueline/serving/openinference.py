"""Open Inference Protocol v2: tensors by name in, tensors by name out; in JSON, or with data as raw bytes (binary.py).

Each input is one column of the contract, of shape [n] or [n, 1], its data flat or nested. One input of shape [n, k]
is taken as all k columns of the model, in its order, which is how clients send a matrix; so is one of shape [k].

`content_type` says what was encoded, as MLServer's clients do: `np`, `pd` and `datetime` change nothing here, `str` says
that BYTES is text, which it is anyway, and `base64` that it is text in base64. Answers to `np` and `pd` carry the hint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import msgspec

from trueline.errors import InvalidInput, NotSupported
from trueline.packaging.signature import Signature
from trueline.serving import binary, tensors
from trueline.serving.dataplane import Answer, Call
from trueline.serving.plain import Plain
from trueline.serving.responses import JSON, Header
from trueline.serving.responses import encode as to_json
from trueline.serving.tensors import DATATYPES, HINTS, Input

EXTENSIONS = ("binary_tensor_data", "model_repository")
OCTETS = b"application/octet-stream"


class Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    inputs: list[Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[Output] | None = None


_decode = msgspec.json.Decoder(InferRequest).decode


@dataclass(slots=True)
class Form:
    """How the answer is wanted."""

    output: str
    binary: bool = False
    hint: str | None = None


def decode(
    body: bytes, signature: Signature, json_size: bytes | None = None, plain: Plain | None = None
) -> tuple[Call, Form]:
    """The call of an infer request to a model of this signature; `json_size`: of the binary extension's header.

    `plain` takes rows that need no further look.
    """
    rest: memoryview | None = None
    if json_size is not None:
        body, rest = binary.split(body, json_size)
    try:
        request = _decode(body)
    except RecursionError:
        raise InvalidInput("the body is nested too deeply") from None
    except (msgspec.DecodeError, ValueError) as problem:
        raise InvalidInput(f"the body is not an inference request: {problem}") from None
    wanted = form(request, signature) if request.parameters or request.outputs else Form(signature.output)
    if rest is None:
        if plain is not None and (rows := tensors.plain_rows(request.inputs, plain, signature)) is not None:
            return Call({}, len(rows), client_id=request.id, plain_rows=rows, plain=plain), wanted
        return to_call(request, signature), wanted
    sizes = [(tensor.name, (tensor.parameters or {}).get(binary.SIZE)) for tensor in request.inputs]
    return to_call(request, signature, binary.shares(rest, sizes)), wanted


def to_call(request: InferRequest, signature: Signature, raw: Sequence[binary.Raw | None] | None = None) -> Call:
    """The call of a request; `raw` has the bytes of each input, None for data that is in the request itself."""
    inputs = request.inputs
    if not inputs:
        raise InvalidInput("'inputs' is empty; send one tensor for each column of the model")
    columns: dict[str, list[Any]] = {}
    alone = len(inputs) == 1
    for place, tensor in enumerate(inputs):
        if raw is None and not alone and tensor.data is not None and tensors.plainly_one_column(tensor):
            found = {tensor.name: tensor.data}
        else:
            values = tensors.values_of(tensor, None if raw is None else raw[place])
            found = tensors.columns_of(tensor, values, signature, alone=alone)
        for name, column in found.items():
            if name in columns:
                raise InvalidInput(f"input '{name}': is given twice")
            columns[name] = column
    return Call(columns, len(next(iter(columns.values()))), client_id=request.id)


def encode(answer: Answer, wanted: Form) -> tuple[bytes, bytes, tuple[Header, ...]]:
    """Body, content type and headers."""
    output: dict[str, Any] = {"name": wanted.output, "shape": [len(answer.outputs), 1], "datatype": "FP64"}
    parameters = {"request_id": answer.request_id}
    said = {
        "model_name": answer.model,
        "model_version": str(answer.version),
        "id": answer.client_id or answer.request_id,
        "parameters": parameters,
        "outputs": [output],
    }
    if wanted.hint is not None:
        parameters["content_type"] = wanted.hint
        output["parameters"] = {"content_type": "np"}
    if not wanted.binary:
        output["data"] = answer.outputs
        return to_json(said), JSON, ()
    data = binary.pack("FP64", answer.outputs)
    output["parameters"] = {**output.get("parameters", {}), binary.SIZE: len(data)}
    head = to_json(said)
    return head + data, OCTETS, ((binary.LENGTH, b"%d" % len(head)),)


def server_metadata() -> dict[str, Any]:
    return {"name": "trueline", "version": version("trueline"), "extensions": list(EXTENSIONS)}


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


def form(request: InferRequest, signature: Signature) -> Form:
    """What `parameters` and `outputs` ask for; there is one output, so each may ask for it."""
    wanted = Form(signature.output)
    parameters = request.parameters or {}
    wanted.binary = parameters.get("binary_data_output") is True
    hint = parameters.get("content_type")
    if hint is not None:
        if not isinstance(hint, str) or hint not in HINTS:
            raise InvalidInput(tensors.unknown_hint("the request", hint))
        wanted.hint = hint if hint == "pd" else "np"
    for output in request.outputs or ():
        if output.name != signature.output:
            raise InvalidInput(f"output '{output.name}': the model has no such output; it has '{signature.output}'")
        _ask_for(output, wanted)
    return wanted


def _ask_for(output: Output, wanted: Form) -> None:
    asked = output.parameters or {}
    if "binary_data" in asked:
        wanted.binary = asked["binary_data"] is True
    if asked.get("classification"):
        raise NotSupported(f"output '{output.name}': classification is not supported here; ask for the values")
    if "shared_memory_region" in asked:
        raise NotSupported(f"output '{output.name}': shared memory is not supported here; ask for the data itself")
    hint = asked.get("content_type")
    if hint is not None:
        if hint not in ("np", "pd"):
            raise InvalidInput(f"output '{output.name}': content_type {hint!r} does not go with numbers; use np or pd")
        wanted.hint = wanted.hint or "np"
