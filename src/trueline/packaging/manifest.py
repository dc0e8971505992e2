"""`trueline.json`, the page of a model folder that says how to execute it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from trueline.domain.contracts import Column, Role, UnknownColumns, column_from_dict
from trueline.errors import InvalidData, NotFound, PackagingFailed
from trueline.packaging import signature as signatures
from trueline.packaging.signature import CLASSIFICATION, REGRESSION, Signature
from trueline.storage import trees

NAME = "trueline.json"
FORMAT = 1
ONNX = "onnx"
SKOPS = "skops"
TREELITE = "treelite"
XGBOOST = "xgboost"
LIGHTGBM = "lightgbm"
PYTHON = "python"
FILES = {
    PYTHON: "model.pkl",
    XGBOOST: "model.ubj",
    LIGHTGBM: "model.txt",
}  # where the library's own ending is not our name of the kind
PRECISIONS = ("float32", "float64")
TASKS = (REGRESSION, CLASSIFICATION)


def file_of(kind: str) -> str:
    """What the file of a model of that kind is called."""
    return FILES.get(kind, f"model.{kind}")


@dataclass(frozen=True)
class Speed:
    """Microseconds per row: one row alone, and each row of a batch of 32; of the executor and of the fitted estimator."""

    row_us: float
    batch_row_us: float
    native_row_us: float
    native_batch_row_us: float


@dataclass(frozen=True)
class Parity:
    """The proof that the packaged model says what the fitted estimator says.

    `worst` is the largest difference found: absolute on probabilities, relative on values. `tried` has a sentence
    for each executor that was not taken, `skipped` one for each kind of edge row the estimator itself refuses.

    The speed is of the moment, so it is told to whoever registers the version and stays out of the folder: equal models
    make equal folders, whatever else the machine was doing.
    """

    worst: float
    rows: int
    tolerance: float
    executor: str
    tried: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    speed: Speed | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Manifest:
    kind: str  # onnx | skops | treelite | xgboost | lightgbm | python
    signature: Signature
    parity: Parity
    layout: str  # how columns become the model's input: matrix | columns (ONNX), plain | categorical (native)
    precision: str = "float32"  # of float tensors: float32 | float64
    trusted: tuple[str, ...] = ()  # types beyond skops' own list that the file holds (skops only)
    meta: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict, compare=False)  # SHA-256 of what it was written beside

    @property
    def model_file(self) -> str:
        return file_of(self.kind)


def parity_from(fields: Mapping[str, Any]) -> Parity:
    """The inverse of `dataclasses.asdict`, after it went through JSON."""
    speed = fields.get("speed")
    lists = {name: tuple(fields[name]) for name in ("tried", "skipped")}
    return Parity(**{**fields, **lists, "speed": None if speed is None else Speed(**speed)})


def write(folder: Path, manifest: Manifest) -> None:
    fields = {
        "format": FORMAT,
        "kind": manifest.kind,
        "layout": manifest.layout,
        "precision": manifest.precision,
        "signature": signatures.encode(manifest.signature),
        "parity": {name: value for name, value in asdict(manifest.parity).items() if name != "speed"},
        "trusted": list(manifest.trusted),
        "meta": dict(manifest.meta),
        "files": trees.file_digests(folder, without=NAME),
    }
    (folder / NAME).write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n")


def read(folder: Path) -> Manifest:
    """The manifest of a model folder; one clear sentence when there is none or it cannot be read."""
    try:
        fields = json.loads((folder / NAME).read_bytes())
        if not isinstance(fields, dict):
            raise ValueError("it is no JSON object")  # noqa: TRY004, TRY301  told as any other damage
        if fields.get("format") == FORMAT:
            return _manifest(fields)
    except FileNotFoundError:
        raise NotFound(
            f"{folder} is not a packaged model: it has no {NAME}; name the folder that `trueline run` made"
        ) from None
    except KeyError as problem:
        raise _unreadable(folder, f"it lacks {problem}") from problem
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, InvalidData) as problem:
        raise _unreadable(folder, problem) from problem
    raise PackagingFailed(
        f"{folder} was packaged in format {str(fields.get('format'))[:20]}, this trueline reads format {FORMAT}; "
        "package the model again or use the trueline that made it"
    )


def check_files(folder: Path, manifest: Manifest) -> None:
    """That the model's files are those this manifest was written for: not damaged, not another package's.

    Raises:
        PackagingFailed: one is not.
    """
    for name, expected in manifest.files.items():
        path = folder / name
        try:
            found = trees.file_digest(path)
        except OSError as problem:
            raise PackagingFailed(
                f"{path} cannot be read ({problem.strerror}); restore the folder or package the model again"
            ) from problem
        if found != expected:
            raise PackagingFailed(
                f"{path} is damaged or another model's: it is not the file that {NAME} beside it was written for; "
                "restore the folder or package the model again"
            )


def _unreadable(folder: Path, problem: object) -> PackagingFailed:
    said = " ".join(str(problem).split())[:200]
    return PackagingFailed(f"{folder / NAME} cannot be read ({said}); package the model again")


def _manifest(fields: Mapping[str, Any]) -> Manifest:
    """Raises KeyError, TypeError, ValueError, AttributeError or InvalidData for what `write` has not written."""
    signature, meta, files = fields["signature"], fields["meta"], fields.get("files", {})
    texts = [fields[name] for name in ("kind", "layout", "precision")]
    texts += [signature["output"], signature["task"], *fields["trusted"], *files, *files.values()]
    if not all(isinstance(one, str) for one in texts):
        raise ValueError("a name in it is no text")
    if fields["precision"] not in PRECISIONS or signature["task"] not in TASKS:
        raise ValueError(f"it says {fields['precision']} and {signature['task']}")
    if any(name.startswith("/") or {"", ".."} & set(name.split("/")) for name in files):
        raise ValueError("a file it names is not in its folder")
    decoded = signatures.decode(signature)
    if not decoded.inputs or len(set(decoded.names)) < len(decoded.inputs):
        raise ValueError("its signature has no inputs, or one twice")
    return Manifest(
        kind=fields["kind"],
        signature=replace(decoded, allowed=_allowed(meta), target=_target(meta)),
        parity=parity_from(fields["parity"]),
        layout=fields["layout"],
        precision=fields["precision"],
        trusted=tuple(fields["trusted"]),
        meta=dict(meta),
        files=dict(files),
    )


def _allowed(meta: Mapping[str, Any]) -> frozenset[str] | None:
    """The columns of the contract the model was made under, when that forbids all others."""
    contract = meta.get("contract") or {}
    if contract.get("unknown_columns") != UnknownColumns.forbid:
        return None
    return frozenset(column["name"] for column in contract["columns"])


def _target(meta: Mapping[str, Any]) -> Column | None:
    """The column that the model was made to predict, as the contract declares it."""
    columns = (meta.get("contract") or {}).get("columns", ())
    return next((column_from_dict(column) for column in columns if column.get("role") == Role.target), None)
