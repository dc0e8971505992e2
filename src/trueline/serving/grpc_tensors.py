"""Infer requests and answers between gRPC's messages and the data plane: what REST says in JSON, in protobuf.

Data comes as typed contents or, for all inputs at once, as raw bytes; the answer's data goes as the request's came, unless
the request asks for one form (`binary_data_output`, or `binary_data` of the output, as in REST).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, prod
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from trueline.errors import InvalidInput
from trueline.packaging.signature import Signature
from trueline.serving import binary, openinference
from trueline.serving.dataplane import Answer, Call
from trueline.serving.grpc_messages import MESSAGES
from trueline.serving.openinference import Form, InferRequest, Output
from trueline.serving.plain import Plain
from trueline.serving.repository import wanted_version
from trueline.serving.responses import encode as to_json
from trueline.serving.tensors import Input, plain_rows

_Response = MESSAGES["ModelInferResponse"]
_OUTPUT_TYPE = "FP64"

_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of InferTensorContents that a datatype's values are in; FP16 has none and comes as raw bytes only."""


def parse(name: str, data: bytes) -> Any:
    """The message of that name in `data`."""
    try:
        return MESSAGES[name].FromString(data)
    except DecodeError:  # its words name C++ fields at best
        raise InvalidInput(
            f"the request is not a {name}: not protobuf of that message, or a text is not UTF-8"
        ) from None


def decode(message: Any, signature: Signature, plain: Plain | None = None) -> tuple[Call, Form]:
    """The call of a ModelInferRequest to a model of this signature, and the form of its answer.

    `plain` takes rows that need no further look.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(
            f"raw_input_contents has {len(raw)} entries for {len(message.inputs)} inputs; send one for each, in order"
        )
    request = InferRequest(
        inputs=[Input(one.name, list(one.shape), one.datatype, None, _parameters(one)) for one in message.inputs],
        id=message.id or None,
        parameters=_parameters(message),
        outputs=[Output(one.name, _parameters(one)) for one in message.outputs] or None,
    )
    form = openinference.form(request, signature)
    if raw and not _asks(request):
        form.binary = True
    parts: list[binary.Raw | None]
    if raw:
        for tensor in message.inputs:
            if tensor.contents.ByteSize():
                raise InvalidInput(
                    f"input '{tensor.name}': has contents, and raw_input_contents are there too; send one of them"
                )
        parts = [_listed(into, data) for into, data in zip(request.inputs, raw, strict=True)]
    else:
        parts = [_unpack(into, one) for into, one in zip(request.inputs, message.inputs, strict=True)]
    if any(part is not None for part in parts):
        return openinference.to_call(request, signature, parts), form
    if plain is not None and (rows := plain_rows(request.inputs, plain, signature)) is not None:
        return Call({}, len(rows), client_id=request.id, plain_rows=rows, plain=plain), form
    return openinference.to_call(request, signature), form


def encode(answer: Answer, form: Form) -> bytes:
    """The ModelInferResponse of an answer."""
    response = _Response(
        model_name=answer.model,
        model_version=str(answer.version),
        id=answer.client_id or answer.request_id,
    )
    response.parameters["request_id"].string_param = answer.request_id
    output = response.outputs.add(name=form.output, datatype=_OUTPUT_TYPE, shape=(len(answer.outputs), 1))
    if form.hint is not None:
        response.parameters["content_type"].string_param = form.hint
        output.parameters["content_type"].string_param = "np"
    if form.binary:
        response.raw_output_contents.append(binary.pack(_OUTPUT_TYPE, answer.outputs))
    else:
        output.contents.fp64_contents.extend(answer.outputs)
    data: bytes = response.SerializeToString()
    return data


def wanted(message: Any) -> tuple[str, int | None]:
    """Model and version of a request to load or unload. KServe has the model where Triton has the repository."""
    parameters = _parameters(message) or {}
    asked = {name: value for name, value in parameters.items() if not isinstance(value, bytes)}
    files = dict.fromkeys(parameters.keys() - asked.keys(), "")  # refused by their names
    return message.model_name or message.repository_name, wanted_version(to_json({"parameters": asked | files}))


def _unpack(tensor: Input, message: Any) -> binary.Raw | None:
    """Put typed contents into the tensor, or give them as bytes: of floats, whose NaN is judged as that of raw ones."""
    if tensor.parameters and "shared_memory_region" in tensor.parameters:
        return None  # `openinference` has the words
    fields = message.contents.ListFields()
    wanted = _CONTENTS.get(tensor.datatype)
    for field, _ in fields:
        if wanted is not None and field.name != wanted:
            raise InvalidInput(f"input '{tensor.name}': values of {tensor.datatype} go in {wanted}, got {field.name}")
    if wanted is None and tensor.datatype in binary.DTYPES:
        raise InvalidInput(f"input '{tensor.name}': {tensor.datatype} has no typed contents; use raw_input_contents")
    values = fields[0][1] if fields else ()
    if tensor.datatype == binary.TEXT:
        tensor.data = _texts(tensor.name, values)
    elif tensor.datatype.startswith("FP") and len(values) == prod(tensor.shape) and not all(map(isfinite, values)):
        return binary.pack(tensor.datatype, values)
    else:
        tensor.data = list(values)
    return None


def _listed(tensor: Input, data: bytes) -> binary.Raw | None:
    """Put raw numbers into the tensor as plain ones, the quick way for the few of one row; else give the bytes back."""
    dtype = binary.DTYPES.get(tensor.datatype)
    if dtype is None or dtype.kind == "b" or len(data) != prod(tensor.shape) * dtype.itemsize:
        return data
    values = np.frombuffer(data, dtype).tolist()
    if dtype.kind == "f" and not all(map(isfinite, values)):
        return data
    tensor.data = values
    return None


def _texts(name: str, values: Sequence[bytes]) -> list[str]:
    row = 0
    try:
        texts = []
        for row, value in enumerate(values):  # noqa: B007  row is named in the refusal
            texts.append(value.decode())
    except UnicodeDecodeError:
        raise InvalidInput(f"input '{name}': expected text in UTF-8, got other bytes at row {row}") from None
    return texts


def _parameters(message: Any) -> dict[str, Any] | None:
    if not message.parameters:
        return None
    chosen = {name: (one, one.WhichOneof("parameter_choice")) for name, one in message.parameters.items()}
    return {name: None if field is None else getattr(one, field) for name, (one, field) in chosen.items()}


def _asks(request: InferRequest) -> bool:
    """Whether the request says itself in which form the answer's data shall be."""
    asked = any("binary_data" in (one.parameters or {}) for one in request.outputs or ())
    return asked or "binary_data_output" in (request.parameters or {})
