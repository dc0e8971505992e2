"""What this server understands, as OpenAPI 3.1, written from the contract of the version in force.

What the contract refuses is a keyword of the schema (`type`, and for strict columns `enum`, `minimum`, `maximum`). What it only
counts must not be one, else generated clients would refuse what the server takes: known categories then are an open
enumeration (`anyOf` of the enumeration and any text), and the range that was seen is `x-seen`. A personal column is marked `x-personal`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from trueline.domain.contracts import FLOATS, NUMBERS, Column, Kind, compile_column
from trueline.packaging.signature import CLASSIFICATION, Signature
from trueline.serving.table import Loaded, example
from trueline.serving.tensors import DATATYPES

PLAIN, OPEN, MLFLOW, KSERVE, MODELS, HEALTH = (
    "plain JSON", "Open Inference v2", "MLflow", "KServe v1", "model repository", "health",
)  # fmt: skip
_TYPES: Mapping[Kind, tuple[str, str | None]] = {
    Kind.integer: ("integer", "int64"),
    Kind.float32: ("number", "float"),
    Kind.float64: ("number", "double"),
    Kind.string: ("string", None),
    Kind.boolean: ("boolean", None),
    Kind.datetime: ("string", "date-time"),
}

Schema = dict[str, Any]


@dataclass(frozen=True)
class _Model:
    """What the operations need to know of the version in force."""

    name: str
    version: int
    signature: Signature
    row: Mapping[str, Any]  # an example

    @property
    def path(self) -> str:
        return quote(self.name, safe="")


def document(name: str, loaded: Loaded, *, token: bool, guarded: bool = False) -> dict[str, Any]:
    """The description of a server whose champion is this version.

    `token`: whether requests need one; `guarded`: whether at least loading and unloading do.
    """
    signature = loaded.runner.signature
    model = _Model(name, loaded.version, signature, example_row(signature, Path(loaded.path)))
    what = "probability of the positive class" if signature.task == CLASSIFICATION else "value"
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": f"{name}: predictions",
            "version": str(loaded.version),
            "summary": f"'{signature.output}' as {what}, by version {loaded.version} of '{name}'",
            "description": "One model behind several protocols; all are answered, recorded and measured alike. The id of row i of a request is "
            "the header Trueline-Request-Id of its answer, a dash, and i: labels refer to it.",
            "x-server": f"trueline {version_of('trueline')}",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in (PLAIN, OPEN, MLFLOW, KSERVE, MODELS, HEALTH)],
        "paths": {**_plain(model), **_open_inference(model), **_older(model), **_models(model), **_health()},
        "components": {"schemas": _schemas(model)},
    }
    if token or guarded:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    if token:
        described["security"] = [{"token": []}]
    elif guarded:
        for path, methods in described["paths"].items():
            if path.endswith(("/load", "/unload")):
                methods["post"]["security"] = [{"token": []}]
    return described


def example_row(signature: Signature, folder: Path) -> dict[str, Any]:
    """The row that was packaged with the model (made up of typical values, nobody's), or else one the contract takes."""
    try:
        packaged = json.loads((folder / "input_example.json").read_text())
        row = dict(zip(packaged["columns"], packaged["data"][0], strict=True))
    except (OSError, ValueError, LookupError, TypeError):
        row = {}
    return {
        column.name: _shown(column, row[column.name]) if column.name in row else _made_up(column)
        for column in signature.inputs
    }


def _shown(column: Column, value: Any) -> Any:
    """The value in its shortest form, or else one the contract takes."""
    refused = compile_column(column)
    if column.kind is Kind.float32 and isinstance(value, float):
        short = float(str(np.float32(value)))
        value = value if refused(short) else short
    return value if refused(value) is None else _made_up(column)


def _made_up(column: Column) -> Any:
    return "text" if column.kind is Kind.string and not column.categories else example(column)


def column_schema(column: Column) -> Schema:
    """What one value of a column may be."""
    kind, form = _TYPES[column.kind]
    schema: Schema = {"type": [kind, "null"] if column.nullable else kind}
    if form is not None:
        schema["format"] = form
    limits = {key: value for key in ("minimum", "maximum") if (value := getattr(column, key)) is not None}
    if column.categories is not None:
        known: list[Any] = [*column.categories, *([None] if column.nullable else [])]
        schema = {**schema, "enum": known} if column.strict else {"anyOf": [{"enum": known}, schema]}
    elif limits and column.strict:
        schema |= limits
    elif limits:
        schema["x-seen"] = limits
    notes = _notes(column, limits)
    if notes:
        schema["description"] = notes
    if column.personal:
        schema["x-personal"] = True
    return schema


def label_schema(signature: Signature) -> Schema:
    """What a label's value may be: what `domain/labels.py` takes."""
    target = signature.target or Column(signature.output, Kind.float64)
    if target.kind is Kind.string:
        known = sorted(target.categories or ())
        return {"enum": [*(known if len(known) == 2 and not target.personal else ()), 0, 1, False, True]}
    if signature.task == CLASSIFICATION or target.kind is Kind.boolean:
        return {"enum": [0, 1, False, True]}
    return column_schema(replace(target, nullable=False)) if target.kind in NUMBERS else {"type": "number"}


def _notes(column: Column, limits: Mapping[str, float]) -> str:
    notes = []
    if column.personal:
        notes.append("Personal: never shown in messages or logs.")
    if column.categories is not None and not column.strict:
        notes.append("Other values are served too, and counted.")
    if limits and not column.strict:
        low, high = limits.get("minimum"), limits.get("maximum")
        seen = (
            f"from {low:g} to {high:g}"
            if low is not None and high is not None
            else (f"from {low:g}" if low is not None else f"up to {high:g}")
        )
        notes.append(f"Seen in training: {seen}; other values are served too, and counted.")
    if column.nullable and column.kind in FLOATS:
        notes.append("NaN and infinities count as null.")
    return " ".join(notes)


def _schemas(model: _Model) -> dict[str, Schema]:
    signature = model.signature
    row: Schema = {
        "type": "object",
        "properties": {column.name: column_schema(column) for column in signature.inputs},
        "required": list(signature.names),
        "examples": [dict(model.row)],
        "description": "Further columns may come along; they are recorded, and the model does not read them.",
    }
    if signature.allowed is not None:
        row["properties"] = {**{name: {} for name in sorted(signature.allowed)}, **row["properties"]}
        row["additionalProperties"] = False
        row["description"] = "The contract forbids columns that it does not name."
    return {
        "Row": row,
        "Instances": _object({"instances": _list({"$ref": "#/components/schemas/Row"})}),
        "Predicted": _object({"predictions": _list({"type": "number"})}),
        "Tensor": _object(
            {
                "name": {"type": "string"},
                "shape": _list({"type": "integer", "minimum": 0}),
                "datatype": {"enum": [*_DATATYPES]},
                "data": {"type": "array"},
                "parameters": {"type": "object"},
            },
            optional=("data", "parameters"),
        ),
        "Error": _object({"error": {"type": "string"}}),
        "MlflowError": _object({"error_code": {"type": "string"}, "message": {"type": "string"}}),
    }


_DATATYPES = (
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
)


def _plain(model: _Model) -> Schema:
    predicted = _object(
        {
            "predictions": _list({"type": "number"}),
            "prediction_ids": _list({"type": ["string", "null"]}),
            "model": {"type": "string"},
            "version": {"type": "integer"},
        }
    )
    value = label_schema(model.signature)
    typical = 1 if "enum" in value else value.get("x-seen", value).get("minimum", 1.0)
    label = _object(
        {
            "prediction_id": {"type": "string"},
            "value": value,
            "source": {"type": "string"},
            "revision": {"type": "integer", "minimum": 0},
        },
        optional=("source", "revision"),
    )
    rows = {"oneOf": [{"$ref": "#/components/schemas/Instances"}, {"$ref": "#/components/schemas/Row"}]}
    many = {"oneOf": [_object({"labels": _list(label)}), label]}
    accepted = _object({"accepted": {"type": "integer"}, "label_ids": _list({"type": "string"})})
    one_label = {"labels": [{"prediction_id": "r0-5f1-1-0", "value": typical}]}
    return {
        "/predict": {"post": _post(PLAIN, "Predict rows", _json(rows, {"instances": [dict(model.row)]}), predicted)},
        "/labels": {"post": _post(PLAIN, "Send labels: what turned out to be true", _json(many, one_label), accepted)},
    }


def _open_inference(model: _Model) -> Schema:
    tensors = [
        {"name": column.name, "shape": [1, 1], "datatype": DATATYPES[column.kind], "data": [model.row[column.name]]}
        for column in model.signature.inputs
    ]
    tensor = {"$ref": "#/components/schemas/Tensor"}
    asked = _object(
        {
            "id": {"type": "string"},
            "inputs": _list(tensor),
            "outputs": {"type": "array"},
            "parameters": {"type": "object"},
        },
        optional=("id", "outputs", "parameters"),
    )
    answered = _object(
        {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "outputs": _list(tensor),
        }
    )
    infer = _post(OPEN, "Predict tensors, one for each column", _json(asked, {"id": "42", "inputs": tensors}), answered)
    at = f"/v2/models/{model.path}"
    pinned = {**infer, "summary": "The same by a version of your choice", "parameters": [_version(model)]}
    return {
        f"{at}/infer": {"post": infer},
        f"{at}/versions/{{version}}/infer": {"post": pinned},
        at: {"get": _get(OPEN, "Inputs and outputs")},
        f"{at}/ready": {"get": _get(OPEN, "Whether it answers")},
        f"{at}/versions/{{version}}": {"get": _get(OPEN, "Inputs and outputs of a version", _version(model))},
        f"{at}/versions/{{version}}/ready": {"get": _get(OPEN, "Whether a version answers", _version(model))},
        "/v2": {"get": _get(OPEN, "The server and its extensions")},
        "/v2/models": {"get": _get(OPEN, "The models")},
        "/v2/health/live": {"get": _get(OPEN, "Whether the process lives")},
        "/v2/health/ready": {"get": _get(OPEN, "Whether it answers predictions")},
    }


def _older(model: _Model) -> Schema:
    row, names = dict(model.row), list(model.row)
    values = [row[name] for name in names]
    row_schema = {"$ref": "#/components/schemas/Row"}
    some = {"type": "array", "minItems": 1}
    split = _object({"columns": _list({"type": "string"}), "data": _list(some)}, optional=())
    forms = {
        "oneOf": [
            _object({"dataframe_split": split}),
            _object({"dataframe_records": _list(row_schema)}),
            _object({"instances": some}),
            _object({"inputs": {"type": ["object", "array"]}}),
        ]
    }
    media = {
        "application/json": {
            "schema": forms,
            "examples": {
                "dataframe_split": {"value": {"dataframe_split": {"columns": names, "data": [values]}}},
                "dataframe_records": {"value": {"dataframe_records": [row]}},
                "instances": {"value": {"instances": [row]}},
                "inputs": {"value": {"inputs": {name: [value] for name, value in row.items()}}},
            },
        },
        "text/csv": {"schema": {"type": "string"}, "example": _csv(row)},
    }
    predicted = {"$ref": "#/components/schemas/Predicted"}
    invoke = _post(MLFLOW, "Predict a frame", media, predicted, error="MlflowError")
    instances = _object({"instances": some})
    by_name = _json(instances, {"instances": [row]})
    return {
        "/invocations": {"post": invoke},
        "/ping": {"get": _get(MLFLOW, "Whether it answers predictions")},
        "/health": {"get": _get(MLFLOW, "The same")},
        "/version": {"get": _get(MLFLOW, "The version of trueline", media="text/plain")},
        f"/v1/models/{model.path}:predict": {"post": _post(KSERVE, "Predict rows", by_name, predicted)},
        f"/v1/models/{model.path}": {"get": _get(KSERVE, "Whether it answers")},
        "/v1/models": {"get": _get(KSERVE, "The models")},
    }


def _models(model: _Model) -> Schema:
    named = _object(
        {"parameters": _object({"version": {"type": ["string", "integer"]}}, optional=("version",))},
        optional=("parameters",),
    )
    wanted = _json(named, {"parameters": {"version": str(model.version)}})
    ready = _json(_object({"ready": {"type": "boolean"}}, optional=("ready",)), {"ready": True})
    entry = _object({key: {"type": "string"} for key in ("name", "version", "state", "reason")})
    at = f"/v2/repository/models/{model.path}"
    done = {"type": "object"}
    return {
        "/v2/repository/index": {"post": _post(MODELS, "The versions there are", ready, _list(entry), required=False)},
        f"{at}/load": {"post": _post(MODELS, "Have a version loaded; it is not routed", wanted, done, required=False)},
        f"{at}/unload": {
            "post": _post(MODELS, "Have a version let go of that is not routed", wanted, done, required=False)
        },
    }


def _health() -> Schema:
    return {
        "/livez": {"get": _get(HEALTH, "Whether the process lives")},
        "/readyz": {"get": _get(HEALTH, "Whether it answers predictions")},
        "/metrics": {"get": _get(HEALTH, "Counters, for Prometheus", media="text/plain")},
    }


def _get(tag: str, summary: str, *parameters: Schema, media: str = "application/json") -> Schema:
    operation: Schema = {
        "tags": [tag],
        "summary": summary,
        "responses": {
            "200": {"description": "As asked", "content": {media: {"schema": {}}}},
            "default": _failure("Error"),
        },
    }
    return {**operation, "parameters": list(parameters)} if parameters else operation


def _post(
    tag: str, summary: str, media: Schema, answered: Schema, *, error: str = "Error", required: bool = True
) -> Schema:
    return {
        "tags": [tag],
        "summary": summary,
        "requestBody": {"required": required, "content": media},
        "responses": {
            "200": {"description": "Done", "content": {"application/json": {"schema": answered}}},
            "default": _failure(error),
        },
    }


def _failure(schema: str) -> Schema:
    return {
        "description": "One sentence: 400 what is wrong with the request, 404 unknown model or version, 429 and 503 try again later",
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _json(schema: Schema, shown: Any) -> Schema:
    return {"application/json": {"schema": schema, "example": shown}}


def _version(model: _Model) -> Schema:
    return {
        "name": "version",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "example": str(model.version),
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
    }


def _csv(row: Mapping[str, Any]) -> str:
    def field(value: Any) -> str:
        text = "" if value is None else str(value)
        return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text

    return f"{','.join(map(field, row))}\n{','.join(map(field, row.values()))}\n"
