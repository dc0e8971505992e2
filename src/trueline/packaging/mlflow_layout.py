"""The files that make a model folder an MLflow model, written without importing MLflow.

Checked against MLflow 3: `mlflow.pyfunc.load_model` reads the folder through its own `onnx` or `sklearn` flavour, so a
reader needs neither trueline nor the training code. Everything written is a function of the model, not of the moment,
except the creation time, which the caller gives.
"""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from trueline.domain.contracts import Column, Kind
from trueline.packaging import python_model
from trueline.packaging.graph import OUTPUT
from trueline.packaging.manifest import LIGHTGBM, ONNX, PYTHON, SKOPS, TREELITE, XGBOOST, Manifest, file_of
from trueline.packaging.python_environment import LOCK
from trueline.packaging.signature import CLASSIFICATION

TYPES = {
    Kind.integer: "long",
    Kind.float32: "float",
    Kind.float64: "double",
    Kind.string: "string",
    Kind.boolean: "boolean",
}
PACKAGES = {
    ONNX: ("onnx", "onnxruntime", "numpy"),
    SKOPS: ("scikit-learn", "skops", "numpy"),
    XGBOOST: ("xgboost", "numpy"),
    LIGHTGBM: ("lightgbm", "numpy"),
    PYTHON: (),  # its lock says what it needs
}


def write(folder: Path, manifest: Manifest, rows: pl.DataFrame, created: datetime) -> None:
    """Add MLmodel, the environment files and an input example to a folder that has the model file."""
    requirements = [f"{name}=={_version(name)}" for name in PACKAGES[_readable(folder, manifest)]]
    if manifest.kind == PYTHON:
        requirements = [line for line in (folder / LOCK).read_text().splitlines() if not line.startswith("#")]
    if mlflow := _version("mlflow-skinny"):
        requirements.insert(0, f"mlflow=={mlflow}")
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements))
    _dump(
        folder / "python_env.yaml",
        {"python": platform.python_version(), "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]},
    )
    conda = [f"python={platform.python_version()}", "pip", {"pip": requirements}]
    _dump(folder / "conda.yaml", {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": conda})
    example = _example(manifest, rows)
    (folder / "input_example.json").write_text(json.dumps(example))
    (folder / "serving_input_example.json").write_text(json.dumps({"dataframe_split": example}, indent=2))
    _dump(folder / "MLmodel", _mlmodel(folder, manifest, created, mlflow))


def _mlmodel(folder: Path, manifest: Manifest, created: datetime, mlflow: str | None) -> dict[str, Any]:
    content = (folder / manifest.model_file).read_bytes()
    identity = hashlib.sha256(content).digest()[:16]
    flavour = _flavour(manifest, _readable(folder, manifest))
    environment = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
    python = {"env": environment, "python_version": platform.python_version(), "model_path": manifest.model_file}
    return {
        "flavors": {"python_function": python | flavour[0], flavour[1]: flavour[2]},
        "is_signature_from_type_hint": False,
        "mlflow_version": mlflow,
        "model_size_bytes": len(content),
        "model_uuid": uuid.UUID(bytes=identity, version=4).hex,
        "run_id": manifest.meta.get("tracking_run_id"),
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "pandas_orient": "split",
            "serving_input_path": "serving_input_example.json",
            "type": "dataframe",
        },
        "signature": {
            "inputs": json.dumps([_field(column) for column in manifest.signature.inputs]),
            "outputs": json.dumps(_outputs(manifest, _readable(folder, manifest))),
            "params": None,
        },
        "utc_time_created": created.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
        "metadata": {"trueline": dict(manifest.meta)},
    }


def _readable(folder: Path, manifest: Manifest) -> str:
    """The kind of file that MLflow reads: the executor's own or, as it has no Treelite, the one beside it."""
    if manifest.kind != TREELITE:
        return manifest.kind
    return next(kind for kind in (XGBOOST, LIGHTGBM, SKOPS) if (folder / file_of(kind)).exists())


def _flavour(manifest: Manifest, kind: str) -> tuple[dict[str, Any], str, dict[str, Any]]:
    if kind in (XGBOOST, LIGHTGBM):
        return _booster_flavour(kind)
    if kind == PYTHON:
        loader, detail = python_model.flavour(manifest)
        return loader, "trueline", dict(detail)
    return _onnx_flavour(manifest) if kind == ONNX else _sklearn_flavour(manifest)


def _booster_flavour(kind: str) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """The library's own Booster, which answers probabilities where its objective has them."""
    own = {
        XGBOOST: {"model_class": "xgboost.core.Booster", "model_format": "ubj", "xgb_version": _version("xgboost")},
        LIGHTGBM: {"model_class": "lightgbm.basic.Booster", "lgb_version": _version("lightgbm")},
    }
    detail = {"code": None, "data": file_of(kind), **own[kind]}
    return {"loader_module": f"mlflow.{kind}", "data": file_of(kind)}, kind, detail


def _onnx_flavour(manifest: Manifest) -> tuple[dict[str, Any], str, dict[str, Any]]:
    detail = {
        "code": None,
        "data": manifest.model_file,
        "onnx_version": _version("onnx"),
        "onnx_session_options": {"intra_op_num_threads": 1, "inter_op_num_threads": 1},
        "providers": ["CPUExecutionProvider"],
        "save_as_external_data": False,
    }
    return {"loader_module": "mlflow.onnx", "data": manifest.model_file}, "onnx", detail


def _sklearn_flavour(manifest: Manifest) -> tuple[dict[str, Any], str, dict[str, Any]]:
    classify = manifest.signature.task == CLASSIFICATION
    detail = {
        "code": None,
        "pickled_model": file_of(SKOPS),
        "serialization_format": "skops",
        "skops_trusted_types": list(manifest.trusted),
        "sklearn_version": _version("scikit-learn"),
    }
    loader = {"loader_module": "mlflow.sklearn", "predict_fn": "predict_proba" if classify else "predict"}
    return loader, "sklearn", detail


def _field(column: Column) -> dict[str, Any]:
    # pandas has no integer null: a column that may be null is floats there
    kind = "double" if column.kind is Kind.integer and column.nullable else TYPES[column.kind]
    return {"type": kind, "name": column.name, "required": True}


def _outputs(manifest: Manifest, kind: str) -> list[dict[str, Any]]:
    if manifest.kind == ONNX:
        return [{"type": "float", "name": OUTPUT, "required": True}]
    booster = kind in (XGBOOST, LIGHTGBM)
    shape = [-1, 2] if manifest.signature.task == CLASSIFICATION and not booster else [-1]
    dtype = "float32" if kind == XGBOOST else "float64"
    return [{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}]


def _example(manifest: Manifest, rows: pl.DataFrame) -> dict[str, Any]:
    values = [_typical(column, rows[column.name]) for column in manifest.signature.inputs]
    return {"columns": list(manifest.signature.names), "data": [values]}


def _typical(column: Column, values: pl.Series) -> Any:
    """A made-up value of the right kind: the example is published with the model, so it is nobody's row."""
    match column.kind:
        case Kind.string:
            return "text" if column.personal or not column.categories else column.categories[0]
        case Kind.boolean:
            return False
        case Kind.integer:
            return 0 if column.personal else int(values.median() or 0)  # type: ignore[arg-type]
        case _:
            return 0.0 if column.personal else float(values.median() or 0.0)  # type: ignore[arg-type]


def _version(name: str) -> str | None:
    for one in (name, f"{name}-cpu"):  # XGBoost is there under two names
        try:
            return metadata.version(one)
        except metadata.PackageNotFoundError:
            continue
    return None


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=True, default_flow_style=False))
