"""`trueline.json`, the page of a model folder that says how to execute it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trueline.errors import NotFound, PackagingFailed
from trueline.packaging import signature as signatures
from trueline.packaging.signature import Signature

NAME = "trueline.json"
FORMAT = 1
ONNX = "onnx"
SKOPS = "skops"


@dataclass(frozen=True)
class Parity:
    """The proof that the packaged model says what the fitted estimator says.

    `worst` is the largest difference found: absolute on probabilities, relative on values. `tried` has a sentence
    for each executor that was not taken, `skipped` one for each kind of edge row the estimator itself refuses.
    """

    worst: float
    rows: int
    tolerance: float
    executor: str
    tried: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    kind: str  # onnx | skops
    signature: Signature
    parity: Parity
    layout: str  # how columns become the model's input: matrix | columns (ONNX), plain | categorical (native)
    precision: str = "float32"  # of float tensors: float32 | float64
    trusted: tuple[str, ...] = ()  # types beyond skops' own list that the file holds (skops only)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_file(self) -> str:
        return f"model.{self.kind}"


def write(folder: Path, manifest: Manifest) -> None:
    fields = {
        "format": FORMAT,
        "kind": manifest.kind,
        "layout": manifest.layout,
        "precision": manifest.precision,
        "signature": signatures.encode(manifest.signature),
        "parity": asdict(manifest.parity),
        "trusted": list(manifest.trusted),
        "meta": dict(manifest.meta),
    }
    (folder / NAME).write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n")


def read(folder: Path) -> Manifest:
    """The manifest of a model folder; one clear sentence when there is none or it cannot be read."""
    try:
        fields = json.loads((folder / NAME).read_text())
    except FileNotFoundError:
        raise NotFound(f"{folder} is not a packaged model: it has no {NAME}; package the model again") from None
    except (OSError, ValueError) as problem:
        raise PackagingFailed(f"{folder / NAME} cannot be read ({problem}); package the model again") from problem
    if fields.get("format") != FORMAT:
        raise PackagingFailed(
            f"{folder} was packaged in format {fields.get('format')}, this trueline reads format {FORMAT}; "
            "package the model again or use the trueline that made it"
        )
    parity = fields["parity"]
    return Manifest(
        kind=fields["kind"],
        signature=signatures.decode(fields["signature"]),
        parity=Parity(**{**parity, "tried": tuple(parity["tried"]), "skipped": tuple(parity["skipped"])}),
        layout=fields["layout"],
        precision=fields["precision"],
        trusted=tuple(fields["trusted"]),
        meta=fields["meta"],
    )
