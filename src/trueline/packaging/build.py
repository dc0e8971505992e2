"""Turn a fitted estimator into a model folder: the fastest executor that proves parity, and a sentence for each other.

The folder is complete or not there: it is made beside its place and renamed. Its digest is what control registers and
what every loader verifies.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from trueline.domain import contracts
from trueline.domain.contracts import Column, Contract, Kind
from trueline.errors import PackagingFailed
from trueline.packaging import (
    boosters,
    choice,
    edges,
    manifest,
    mlflow_layout,
    native,
    parity,
    python_model,
    torch_model,
    tree_models,
)
from trueline.packaging.choice import Candidate
from trueline.packaging.convert import recipes
from trueline.packaging.feeds import MATRIX
from trueline.packaging.manifest import ONNX, PYTHON, SKOPS, Manifest, Parity
from trueline.packaging.native import CATEGORICAL, PLAIN
from trueline.packaging.python_model import Code
from trueline.packaging.signature import CLASSIFICATION, Signature
from trueline.storage import trees

HELD_OUT_ROWS = (
    5_000  # of the held-out rows, for the proof: enough to visit every leaf, cheap enough to do at each refit
)


@dataclass(frozen=True)
class Packaged:
    folder: Path
    digest: str
    kind: str  # of executor, as the manifest says
    parity: Parity
    signature: Signature


def package(
    estimator: Any,
    *,
    rows: pl.DataFrame,
    contract: Contract,
    task: str,
    folder: Path,
    created: datetime,
    meta: Mapping[str, Any] | None = None,
    code: Code | None = None,
) -> Packaged:
    """Package a fitted estimator; `rows` are held-out rows, `meta` JSON values to keep with the model.

    `code` is the project's, for an object that only Python itself can keep; without it none is tried.
    """
    fitted = boosters.as_estimator(getattr(estimator, "best_estimator_", estimator))
    signature = signature_of(fitted, contract, task)
    held_out = _held_out(rows, signature)
    layout, predict = _native(fitted, signature, held_out)
    if _foreign(fitted) and task == CLASSIFICATION:
        python_model.check_probabilities(fitted, predict(parity.as_columns(held_out)))
    proof = parity.prepare(predict, task, held_out, edges.edge_rows(fitted, signature.inputs, held_out))
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    base = Manifest(
        kind=ONNX,
        signature=signature,
        parity=Parity(0.0, proof.rows, parity.TOLERANCE, "", (), proof.skipped),
        layout=layout,  # of the native executor; each ONNX recipe brings its own
        meta={"contract": contracts.to_dict(contract), **(meta or {})},
    )
    try:
        chosen = choice.fastest(
            type(fitted).__name__, _candidates(fitted, base, code), base.parity, proof, predict, draft
        )
        manifest.write(draft, chosen)
        mlflow_layout.write(draft, chosen, held_out, created)
        digest = trees.digest(draft)
        if folder.exists():  # left by an attempt that was killed after its rename
            shutil.rmtree(folder)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Packaged(folder, digest, chosen.kind, chosen.parity, signature)


def signature_of(estimator: Any, contract: Contract, task: str) -> Signature:
    """The contract's columns that the estimator was fitted on; a sentence for each way in which that cannot be told."""
    kind = type(estimator).__name__
    names = getattr(estimator, "feature_names_in_", None)
    foreign = names is None
    if foreign:
        names = python_model.declared(estimator, contract)
    if names is None:
        raise PackagingFailed(
            f"the {kind} that fit returned does not know its columns (it has no feature_names_in_); "
            "either it is not fitted, or it was fitted on an array: fit it on a data frame, such as frame.select([...])"
        )
    inputs = tuple(_input(str(name), contract, kind) for name in names)
    if task == CLASSIFICATION and not foreign:
        _check_classifier(estimator, kind)
    target = next(iter(contract.of(contracts.Role.target)), None)
    return Signature(inputs, "prediction" if target is None else target.name, task, target=target)


def _input(name: str, contract: Contract, kind: str) -> Column:
    if name not in contract:
        raise PackagingFailed(
            f"the {kind} was fitted on the column '{name}', which is not in the contract; a request could not bring it. "
            "Derive features inside the estimator (a Pipeline), not in fit"
        )
    column = contract.column(name)
    if column.role is contracts.Role.target:
        raise PackagingFailed(f"the {kind} was fitted on the target '{name}' itself; leave it out of the features")
    if column.kind is Kind.datetime:
        raise PackagingFailed(
            f"the {kind} was fitted on the datetime column '{name}', which no executor takes; "
            "put numbers derived from it (hour, weekday) into the data"
        )
    return column


def _check_classifier(estimator: Any, kind: str) -> None:
    if not hasattr(estimator, "predict_proba"):
        raise PackagingFailed(
            f"the {kind} gives no probabilities (predict_proba); choose a classifier that does, "
            "or wrap it in CalibratedClassifierCV"
        )
    if (count := len(estimator.classes_)) != 2:
        raise PackagingFailed(f"the {kind} knows {count} classes; classification here is between two")


def _held_out(rows: pl.DataFrame, signature: Signature) -> pl.DataFrame:
    missing = [name for name in signature.names if name not in rows.columns]
    if missing:
        raise PackagingFailed(f"the held-out rows have no column '{missing[0]}', which the estimator was fitted on")
    if rows.is_empty():
        raise PackagingFailed("there are no held-out rows to prove parity on; hold some back")
    step = max(1, -(-len(rows) // HELD_OUT_ROWS))
    return rows.gather_every(step).select(
        pl.col(column.name).cast(native.DTYPES[column.kind]) for column in signature.inputs
    )


def _native(estimator: Any, signature: Signature, held_out: pl.DataFrame) -> tuple[str, parity.Predict]:
    """The estimator's own predictions, with strings as they are or, where it needs them so, as categories."""
    problem: Exception | None = None
    few = parity.as_columns(held_out.head(16))
    for layout in (PLAIN, CATEGORICAL):
        if _foreign(estimator):
            predict = python_model.predictor(estimator, signature)
        else:
            predict = native.predictor(estimator, signature, layout)
        try:
            predict(few)
        except Exception as raised:  # noqa: BLE001  any estimator, any objection
            problem = problem or raised
        else:
            return layout, predict
    raise PackagingFailed(
        f"the {type(estimator).__name__} cannot predict rows as they come from the data "
        f"({type(problem).__name__}: {problem}); do the preparation inside the estimator (a Pipeline), not in fit"
    )


def _foreign(estimator: Any) -> bool:
    """Whether it is no estimator as scikit-learn's are, so that only its own code can say what it predicts."""
    return getattr(estimator, "feature_names_in_", None) is None


def _candidates(estimator: Any, base: Manifest, code: Code | None) -> list[Candidate]:
    found = _estimators_own(estimator, base) if not _foreign(estimator) else []
    if not found and code is None and not torch_model.is_module(estimator):
        raise PackagingFailed(
            f"the {type(estimator).__name__} that fit returned can only be kept as a pickled object, and serve.pickle "
            "is false; set it to true, or return an estimator of scikit-learn's own parts"
        )
    if torch_model.is_module(estimator):

        def exported(path: Path, chosen: Manifest) -> Manifest:
            path.write_bytes(torch_model.export(estimator, len(base.signature.inputs)))
            return chosen

        onnx = replace(base, kind=ONNX, layout=MATRIX, precision="float32")
        found.append(Candidate("ONNX, exported by PyTorch", onnx, exported))
    if code is not None:

        def pickled(path: Path, chosen: Manifest) -> Manifest:
            return python_model.write(estimator, path, chosen, code)

        layout = python_model.how_asked(estimator, base.signature.task)
        found.append(Candidate("Python, in its own process", replace(base, kind=PYTHON, layout=layout), pickled))
    return found


def _estimators_own(estimator: Any, base: Manifest) -> list[Candidate]:
    found = []
    for recipe in recipes(estimator, base.signature.inputs):

        def onnx(path: Path, chosen: Manifest, write: Callable[[], bytes] = recipe.write) -> Manifest:
            path.write_bytes(write())
            return chosen

        chosen = replace(base, kind=ONNX, layout=recipe.layout, precision=recipe.precision)
        found.append(Candidate(recipe.name, chosen, onnx))
    found += tree_models.candidates(estimator, base)
    if isinstance(estimator, boosters.Bare):
        return found

    def skops(path: Path, chosen: Manifest) -> Manifest:
        return replace(chosen, trusted=native.write(estimator, path))

    found.append(Candidate("native, skops", replace(base, kind=SKOPS), skops))
    return found
