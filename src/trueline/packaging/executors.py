"""Load a packaged model and predict with it: the part of packaging that a serving process imports.

`load` verifies the folder's digest before it opens the model. An ONNX model runs inside the serving process, on one
thread; any other is for a process of its own (`in_process` is false), where a hang or a crash costs it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trueline.errors import PackagingFailed
from trueline.packaging import manifest as manifests
from trueline.packaging import tree_executors
from trueline.packaging.feeds import MATRIX, MATRIX_INPUT, Columns, Rows, feed, float_type, row_feed, tensor_type
from trueline.packaging.manifest import Manifest
from trueline.packaging.signature import Signature
from trueline.storage import trees


class Executor(Protocol):
    """One loaded model version."""

    signature: Signature
    kind: str
    in_process: bool

    def predict(self, columns: Columns) -> NDArray[np.float64]:
        """One number per row, shape (n,): the value, or the probability of the positive class.

        `columns` has at least the signature's inputs, all of one length, already checked against the contract; null
        is None (or NaN).
        """


class OnnxExecutor:
    """ONNX Runtime on one thread: batches come from one event loop, and a thread pool would only add hand-overs."""

    kind = manifests.ONNX
    in_process = True

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        import onnxruntime  # noqa: PLC0415  a server of native models never loads it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                (folder / manifest.model_file).read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as problem:  # onnxruntime's exceptions share no other base
            raise PackagingFailed(f"ONNX Runtime cannot load {folder / manifest.model_file}: {problem}") from problem
        _check_inputs(self._session.get_inputs(), folder, manifest)
        self.signature = manifest.signature
        self._feed = feed(manifest.signature.inputs, manifest.layout, manifest.precision)
        self._row_feed = row_feed(manifest.signature.inputs, manifest.layout, manifest.precision)
        self._outputs = [self._session.get_outputs()[0].name]

    def predict(self, columns: Columns) -> NDArray[np.float64]:
        values: NDArray[Any] = self._session.run(self._outputs, self._feed(columns))[0]
        return values.reshape(-1).astype(np.float64)

    def predict_rows(self, rows: Rows) -> NDArray[np.float64]:
        """As `predict`, from rows of values in the order of the inputs."""
        values: NDArray[Any] = self._session.run(self._outputs, self._row_feed(rows))[0]
        return values.reshape(-1).astype(np.float64)


_TENSORS: Mapping[type[Any], str] = {
    np.float32: "tensor(float)", np.float64: "tensor(double)", np.int64: "tensor(int64)", object: "tensor(string)",
}  # fmt: skip


def _check_inputs(found: Sequence[Any], folder: Path, manifest: Manifest) -> None:
    """That the graph takes what the signature gives, so that one that does not is refused before anybody asks it."""
    inputs, precision = manifest.signature.inputs, manifest.precision
    if manifest.layout == MATRIX:
        given = {MATRIX_INPUT: _TENSORS[float_type(precision)]}
    else:
        given = {column.name: _TENSORS[tensor_type(column, precision)] for column in inputs}
    taken = {one.name: one.type for one in found}
    widths = [one.shape[1] for one in found if manifest.layout == MATRIX and len(one.shape) > 1]
    if given != taken or any(isinstance(width, int) and width != len(inputs) for width in widths):
        raise PackagingFailed(
            f"{folder / manifest.model_file} is not the model that {manifests.NAME} beside it describes: they disagree "
            "about its inputs; restore the folder or package the model again"
        )


class SkopsExecutor:
    """The fitted estimator itself, read by skops without executing anything the file brings along."""

    kind = manifests.SKOPS
    in_process = False

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        from trueline.packaging import native  # noqa: PLC0415  scikit-learn and Polars, for a child process only

        estimator = native.read(folder / manifest.model_file, manifest.trusted)
        self.signature = manifest.signature
        self._predict = native.predictor(estimator, manifest.signature, manifest.layout)

    def predict(self, columns: Columns) -> NDArray[np.float64]:
        return self._predict(columns)


_TREES: Mapping[str, Callable[[Path, Manifest], Executor]] = {
    manifests.TREELITE: tree_executors.TreeliteExecutor,
    manifests.XGBOOST: tree_executors.XGBoostExecutor,
    manifests.LIGHTGBM: tree_executors.LightGBMExecutor,
}


def load(folder: Path, digest: str | None) -> Executor:
    """The executor of a model folder, verified against the digest it was registered with (None: not verified)."""
    manifest = manifests.read(folder)
    if digest is not None and (found := trees.digest(folder)) != digest:
        raise PackagingFailed(
            f"the model in {folder} is not the one that was registered: its content has digest {found}, "
            f"expected {digest}; restore the folder or package the model again"
        )
    manifests.check_files(folder, manifest)
    if manifest.kind == manifests.ONNX:
        return OnnxExecutor(folder, manifest)
    if manifest.kind == manifests.SKOPS:
        return SkopsExecutor(folder, manifest)
    if (made := _TREES.get(manifest.kind)) is not None:
        return made(folder, manifest)
    if manifest.kind == manifests.PYTHON:
        from trueline.packaging.python_model import PythonExecutor  # noqa: PLC0415  as above

        return PythonExecutor(folder, manifest, digest)
    raise PackagingFailed(f"{folder} needs an executor called {manifest.kind!r}, which this trueline does not have")
