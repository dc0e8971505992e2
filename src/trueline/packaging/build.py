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
from trueline.packaging import edges, manifest, mlflow_layout, native, parity
from trueline.packaging.convert import recipes
from trueline.packaging.executors import Executor, load
from trueline.packaging.manifest import ONNX, SKOPS, Manifest, Parity
from trueline.packaging.native import CATEGORICAL, PLAIN
from trueline.packaging.signature import CLASSIFICATION, Signature
from trueline.storage import trees

SLOWEST_ROW = 1e-3  # seconds inside the serving process, where everybody else waits meanwhile
HELD_OUT_ROWS = (
    5_000  # of the held-out rows, for the proof: enough to visit every leaf, cheap enough to do at each refit
)


@dataclass(frozen=True)
class Packaged:
    folder: Path
    digest: str
    kind: str  # onnx | skops
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
) -> Packaged:
    """Package a fitted estimator; `rows` are held-out rows, `meta` JSON values to keep with the model."""
    fitted = getattr(estimator, "best_estimator_", estimator)
    signature = signature_of(fitted, contract, task)
    held_out = _held_out(rows, signature)
    layout, predict = _native(fitted, signature, held_out)
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
        chosen = _first_that_holds(fitted, base, proof, draft)
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
    if names is None:
        raise PackagingFailed(
            f"the {kind} that fit returned does not know its columns (it has no feature_names_in_); "
            "either it is not fitted, or it was fitted on an array: fit it on a data frame, such as frame.select([...])"
        )
    inputs = tuple(_input(str(name), contract, kind) for name in names)
    if task == CLASSIFICATION:
        _check_classifier(estimator, kind)
    target = next((column.name for column in contract.columns if column.role is contracts.Role.target), "prediction")
    return Signature(inputs, target, task)


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


def _first_that_holds(estimator: Any, base: Manifest, proof: parity.Proof, draft: Path) -> Manifest:
    """Try the candidates in order; one that is right but slow is taken only if nothing after it is right."""
    tried: list[str] = []
    slow: _Candidate | None = None
    candidates = _candidates(estimator, base)
    while candidates or slow is not None:
        last_resort = not candidates
        candidate, slow = (candidates.pop(0), slow) if candidates else (slow, None)
        assert candidate is not None  # noqa: S101  the loop's condition
        try:
            written, executor = candidate.build(draft)
            worst = parity.check(proof, executor)
            if not worst.holds:
                tried.append(f"{candidate.name}: differs by {worst.difference:.2g} on {worst.where}")
                continue
            if executor.in_process and not last_resort and parity.row_seconds(proof, executor) > SLOWEST_ROW:
                tried.append(f"{candidate.name}: right, but a row takes longer than {SLOWEST_ROW * 1e3:g} ms")
                slow = slow or candidate
                continue
        except Exception as problem:  # noqa: BLE001  converters raise anything; it is told, and the next one tried
            tried.append(f"{candidate.name}: {_first_line(problem)}")
            continue
        proven = replace(base.parity, worst=worst.difference, executor=candidate.name, tried=tuple(tried))
        return replace(written, parity=proven)
    raise PackagingFailed(
        f"no executor reproduces the {type(estimator).__name__} within {parity.TOLERANCE:g}: {'; '.join(tried)}"
    )


@dataclass(frozen=True)
class _Candidate:
    name: str
    manifest: Manifest
    write: Callable[[Path, Manifest], Manifest]

    def build(self, draft: Path) -> tuple[Manifest, Executor]:
        """Write the folder anew and load it as a server would: what is proved is what is served."""
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        written = self.write(draft / self.manifest.model_file, self.manifest)
        manifest.write(draft, written)
        return written, load(draft, None)


def _candidates(estimator: Any, base: Manifest) -> list[_Candidate]:
    found = []
    for recipe in recipes(estimator, base.signature.inputs):

        def onnx(path: Path, chosen: Manifest, write: Callable[[], bytes] = recipe.write) -> Manifest:
            path.write_bytes(write())
            return chosen

        chosen = replace(base, kind=ONNX, layout=recipe.layout, precision=recipe.precision)
        found.append(_Candidate(recipe.name, chosen, onnx))

    def skops(path: Path, chosen: Manifest) -> Manifest:
        return replace(chosen, trusted=native.write(estimator, path))

    found.append(_Candidate("native, skops", replace(base, kind=SKOPS), skops))
    return found


def _first_line(problem: Exception) -> str:
    text = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {text[0][:200]}" if text else type(problem).__name__
