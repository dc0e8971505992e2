"""One training, start to end, in a process that does nothing else before or after.

What user code prints goes to the run's log. The result file is written last and by rename: a parent that finds none
knows that the process died on the way.
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trueline.domain.contracts import Contract, Role
from trueline.errors import InvalidData, TrainingFailed, TruelineError, Unavailable
from trueline.packaging.build import package
from trueline.packaging.executors import Executor, load
from trueline.packaging.parity import as_columns
from trueline.packaging.python_model import Code
from trueline.packaging.signature import CLASSIFICATION
from trueline.pipelines import metrics, summary, user_code, values
from trueline.pipelines.closure import closure
from trueline.pipelines.outputs import Damaged, Outputs
from trueline.pipelines.process import recorded, reproducible, send_output_to
from trueline.pipelines.rows import read_rows
from trueline.pipelines.spec import LOG, MODEL, TrainResult, TrainSpec, read_spec, write_failure, write_result
from trueline.tracking import journal


def main(path: Path) -> None:
    """Train what the spec file says; leaves a result or a failure in the run's folder."""
    spec = read_spec(path)
    send_output_to(spec.folder / LOG)
    try:
        with reproducible(spec.seed, spec.threads):
            result = train(spec)
    except Damaged as problem:
        if spec.outputs is not None:
            Outputs(spec.outputs).discard(problem.digest)  # so that the step that made it is asked again
        write_failure(spec.folder, Unavailable.__name__, str(problem))
    except TruelineError as problem:
        write_failure(spec.folder, type(problem).__name__, str(problem))
    except Exception as problem:  # noqa: BLE001  the edge of the process: told, with the traceback in the log
        traceback.print_exc()
        write_failure(
            spec.folder,
            TrainingFailed.__name__,
            f"training {spec.entry} ended with {type(problem).__name__}: {problem}; the traceback is in {spec.folder / LOG}",
        )
    else:
        write_result(spec.folder, result)


def train(spec: TrainSpec) -> TrainResult:
    """Fit, package, evaluate the packaged model, and describe the training rows."""
    started, burnt = time.perf_counter(), time.process_time()
    rows = read_rows(spec.rows, spec.contract)
    held_out = None if spec.held_out is None else read_rows(spec.held_out, spec.contract)
    if rows.is_empty():
        raise TrainingFailed("there are no rows to train on in this window; widen it or wait for data")
    with recorded(spec.folder):
        if spec.params:
            journal.log_params(spec.params)
        estimator = _from_steps(spec) if spec.result is not None else _fit(spec, rows)
    packaged = package(
        estimator,
        rows=rows if held_out is None or held_out.is_empty() else held_out,
        contract=spec.contract,
        task=spec.task,
        folder=spec.folder / MODEL,
        created=spec.created,
        meta=spec.meta,
        code=_code(spec) if spec.pickle else None,
    )
    executor = load(packaged.folder, packaged.digest)
    positive = _positive(estimator, rows, spec)
    target = _target(rows, spec.contract, positive)
    found = {f"train_{name}": value for name, value in _evaluate(spec, executor, rows, target).items()}
    if held_out is not None and not held_out.is_empty():
        found |= _evaluate(spec, executor, held_out, _target(held_out, spec.contract, positive))
    return TrainResult(
        folder=packaged.folder,
        digest=packaged.digest,
        kind=packaged.kind,
        parity=packaged.parity,
        metrics=found,
        summary=summary.summarise(rows, packaged.signature, target[np.isfinite(target)]),
        rows=len(rows),
        wall_seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - burnt,
    )


def _positive(estimator: Any, rows: pl.DataFrame, spec: TrainSpec) -> Any:
    """The target's value of which a classifier gives the probability; what does not say takes the later of the two."""
    if spec.task != CLASSIFICATION:
        return None
    classes = getattr(estimator, "classes_", None)
    if classes is not None:
        return np.asarray(classes)[1].item()
    values = rows[spec.contract.target.name].drop_nulls().unique().sort()
    return values[-1] if len(values) == 2 else None


def _code(spec: TrainSpec) -> Code:
    """The project's modules that the training reaches, for a model that cannot be kept without them."""
    file, _ = user_code.split_entry(spec.entry)
    own = Path(file).parent.as_posix()
    files = tuple(name for name in closure(spec.project, spec.entry) if not Path(name).is_absolute())
    return Code(spec.project, files, tuple(dict.fromkeys([own, "."])))


def _fit(spec: TrainSpec, rows: pl.DataFrame) -> Any:
    function = user_code.find(spec.project, spec.entry)
    return user_code.fit(function, rows, spec.params, spec.project, spec.entry)


def _from_steps(spec: TrainSpec) -> Any:
    """What the steps of a pipeline made, each in its own process before this one."""
    assert spec.result is not None and spec.outputs is not None  # noqa: S101, PT018  given together
    user_code.make_importable(spec.project, spec.entry)
    estimator = values.load(spec.result["tree"], Outputs(spec.outputs), spec.project, spec.result["path"])
    return user_code.usable(estimator, spec.entry)


def _evaluate(spec: TrainSpec, executor: Executor, rows: pl.DataFrame, target: metrics.Floats) -> dict[str, float]:
    known = np.isfinite(target)
    names = list(executor.signature.names)
    if not known.any():
        return {}
    predicted = executor.predict(as_columns(rows.select(names).filter(pl.Series(known))))
    return metrics.evaluate(spec.task, target[known], predicted)


def _target(rows: pl.DataFrame, contract: Contract, positive: Any) -> metrics.Floats:
    """The target as numbers: a value, or, where there is a positive class, 1 for it and 0 for the other; null is NaN."""
    column = next((one for one in contract.columns if one.role is Role.target), None)
    if column is None:
        raise InvalidData("the contract names no target; add `role: target` to the column that is to be predicted")
    values = rows[column.name] if positive is None else rows[column.name] == positive
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
