"""Any Python object as a model: pickled with the project's code it needs, and run in a process and environment of its own.

Taken when no executor that reads data alone can hold the object. What `fit` may return: an object with `predict` (and
`predict_proba`), or a function; either is given a Polars frame of the features, like `fit`, and answers one number per
row: the value, or the probability of the positive class. `columns` on the object names the features it wants; else all.

A pickle runs code when it is loaded. This one was made by a training of the project, the loader verifies the digest it
was registered with before it opens it, and a server can refuse all of them (ADR 0025).
"""

from __future__ import annotations

import pickle
import shutil
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueline.domain.contracts import Contract, Kind, Role
from trueline.errors import PackagingFailed
from trueline.packaging import python_environment, python_worker
from trueline.packaging.feeds import Columns
from trueline.packaging.manifest import PYTHON, Manifest
from trueline.packaging.python_worker import CALL, CODE, MODEL, PREDICT, PROBABILITY, TENSOR
from trueline.packaging.signature import CLASSIFICATION, Signature

MLFLOW_LOADER = "trueline_python_model"


@dataclass(frozen=True)
class Code:
    """The project's modules that a training reaches, by path relative to the project; `roots` are where imports begin."""

    project: Path = field(default_factory=Path)
    files: tuple[str, ...] = ()
    roots: tuple[str, ...] = (".",)


def declared(model: Any, contract: Contract) -> tuple[str, ...] | None:
    """The features of an object that has no `feature_names_in_`: those it names, or all; None for what is no model of this kind.

    Datetimes are left out of all: no request brings one as such.
    """
    if not (callable(getattr(model, "predict", None)) or callable(model)):
        return None
    named = getattr(model, "columns", None)
    if named is None and hasattr(model, "get_params") and hasattr(model, "fit"):
        return None  # scikit-learn's estimators say what they were fitted on, if on a frame
    if named is None:
        return tuple(one.name for one in contract.of(Role.feature) if one.kind is not Kind.datetime)
    if isinstance(named, str) or not all(isinstance(one, str) for one in named):
        raise PackagingFailed(f"`columns` of the {type(model).__name__} that fit returned must be the features' names")
    return tuple(named)


def how_asked(model: Any, task: str) -> str:
    """How an object answers, as the manifest's layout."""
    if _is_module(model):
        return TENSOR
    if task == CLASSIFICATION and callable(getattr(model, "predict_proba", None)):
        return PROBABILITY
    return PREDICT if callable(getattr(model, "predict", None)) else CALL


def _is_module(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def predictor(model: Any, signature: Signature) -> Callable[[Columns], NDArray[np.float64]]:
    """The object's own answers, in this process."""
    inputs = [(column.name, str(column.kind)) for column in signature.inputs]
    return python_worker.predictor(model, inputs, how_asked(model, signature.task))


def check_probabilities(model: Any, said: NDArray[np.float64]) -> None:
    """Of a classifier that has no predict_proba, whose answers are taken as probabilities."""
    if said.size and (said.min() < 0.0 or said.max() > 1.0):
        raise PackagingFailed(
            f"the {type(model).__name__} answers {said.min():.3g} to {said.max():.3g} where a classification needs the "
            "probability of the positive class; end it with a sigmoid, or give it predict_proba"
        )


def write(model: Any, path: Path, chosen: Manifest, code: Code) -> Manifest:
    """Write the pickle, the code it needs, and the lock of its environment beside it."""
    pickled = _pickled(model)
    folder = path.parent
    path.write_bytes(pickled)
    files = [code.project / name for name in code.files]
    for name, source in zip(code.files, files, strict=True):
        target = folder / CODE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    (folder / CODE).mkdir(exist_ok=True)
    shutil.copyfile(python_worker.__file__, folder / CODE / f"{MLFLOW_LOADER}.py")
    for place in [folder / CODE, *(path for path in (folder / CODE).rglob("*") if path.is_dir())]:
        # a file where Python would put its folder: who imports from here, as MLflow does, must not change the digest
        (place / "__pycache__").write_text("Nothing is cached here, so that this folder stays what it was.\n")
    (folder / python_environment.LOCK).write_text(python_environment.lock(pickled, files))
    return replace(chosen, meta={**chosen.meta, "python": {"roots": list(code.roots)}})


def _pickled(model: Any) -> bytes:
    """Plain pickle where it can; cloudpickle for lambdas, closures and what is defined inside functions."""
    try:
        return pickle.dumps(model, protocol=5)
    except Exception as problem:  # noqa: BLE001  a type's own reduction raises anything
        try:
            import cloudpickle  # noqa: PLC0415  seldom needed
        except ImportError:
            raise _unpicklable(model, problem) from problem
        try:
            return bytes(cloudpickle.dumps(model, protocol=5))
        except Exception as again:
            raise _unpicklable(model, again) from again


def _unpicklable(model: Any, problem: Exception) -> PackagingFailed:
    return PackagingFailed(
        f"the {type(model).__name__} that fit returned cannot be pickled ({type(problem).__name__}: {problem}); leave open "
        "files, locks and connections out of it, and make them again in predict"
    )


class PythonExecutor:
    """The object in a process of its own, asked batch by batch, for who is not a server: gates, batch scoring, the proof."""

    kind = PYTHON
    in_process = False

    def __init__(self, folder: Path, manifest: Manifest, digest: str | None) -> None:
        self.signature = manifest.signature
        self._number = 0
        # not with-parent: the kernel would end it with the thread that started it
        start = python_environment.command(folder, digest or "", with_parent=False)
        self._pipe, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                start(theirs.fileno()), pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        self._end = weakref.finalize(self, _end, self._process, self._pipe)
        opened = python_worker.receive(self._pipe)
        if opened is None or opened["type"] != "ready":
            self._end()
            what = "its process ended before it was loaded" if opened is None else opened["error"]
            raise PackagingFailed(f"the Python model in {folder} cannot be loaded: {what}")

    def predict(self, columns: Columns) -> NDArray[np.float64]:
        self._number += 1
        plain = {name: _plain(columns[name]) for name in self.signature.names}
        rows = len(plain[self.signature.names[0]])
        try:
            python_worker.send(self._pipe, {"type": "work", "number": self._number, "rows": rows, "columns": plain})
            answer = python_worker.receive(self._pipe)
        except ConnectionError:
            answer = None
        if answer is None:
            raise PackagingFailed(f"the model's process died while it scored {rows} rows; start again")
        if answer["type"] != "values":
            raise ValueError(answer["error"])
        return np.frombuffer(answer["data"], dtype=np.float64)


def _end(process: subprocess.Popen[bytes], pipe: socket.socket) -> None:
    pipe.close()
    process.kill()
    process.wait()


def _plain(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def flavour(manifest: Manifest) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The model for `mlflow.pyfunc`, by the loader that lies in its folder."""
    loader = {"loader_module": MLFLOW_LOADER, "code": CODE, "data": MODEL}
    return loader, {"layout": manifest.layout, "lock": python_environment.LOCK}
