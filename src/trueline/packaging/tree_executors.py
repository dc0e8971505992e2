"""Executors of tree libraries: XGBoost's and LightGBM's own boosters, and Treelite's GTIL for any trees.

Each reads a data format and executes nothing from it. But the readers are C++ that believes what a file says: of 400
Treelite files with a few bytes changed, 15 ended the process and 21 did not return in time. So none of them runs inside the
serving process. The libraries are optional; each is imported when a model needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueline.domain.contracts import Column, Kind
from trueline.errors import PackagingFailed
from trueline.packaging import manifest as manifests
from trueline.packaging.boosters import pandas_words
from trueline.packaging.feeds import MATRIX, MATRIX_INPUT, Columns, feed, float_type
from trueline.packaging.manifest import Manifest

Matrix = Callable[[Columns], NDArray[Any]]


class XGBoostExecutor:
    """XGBoost on one thread, predicting from the matrix in place; a word is its place in the contract's categories."""

    kind = manifests.XGBOOST
    in_process = False

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        library = _library(self.kind)
        self.signature = manifest.signature
        inputs = manifest.signature.inputs
        words = {place: one.categories or () for place, one in enumerate(inputs) if one.kind is Kind.string}
        self._matrix = _matrix(inputs, "float32", words)
        self._booster = library.Booster({"nthread": 1})
        _reading(folder / manifest.model_file, self._booster.load_model)

    def predict(self, columns: Columns) -> NDArray[np.float64]:
        return np.asarray(self._booster.inplace_predict(self._matrix(columns))).astype(np.float64)


class LightGBMExecutor:
    """LightGBM on one thread; a word is its place in the categories that the model file names."""

    kind = manifests.LIGHTGBM
    in_process = False

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        library = _library(self.kind)
        self.signature = manifest.signature
        self._booster = _reading(folder / manifest.model_file, lambda path: library.Booster(model_file=path))
        inputs = manifest.signature.inputs
        self._matrix = _matrix(inputs, manifest.precision, pandas_words(self._booster, inputs))

    def predict(self, columns: Columns) -> NDArray[np.float64]:
        return np.asarray(self._booster.predict(self._matrix(columns), num_threads=1)).astype(np.float64)


class TreeliteExecutor:
    """Treelite's general tree inference on one thread, in the element type of the model's own thresholds."""

    kind = manifests.TREELITE
    in_process = False

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        library = _library(self.kind)
        self.signature = manifest.signature
        self._gtil = import_module("treelite.gtil")
        self._model = _reading(folder / manifest.model_file, library.Model.deserialize)
        self._type = self._model.input_type
        self._matrix = _matrix(manifest.signature.inputs, manifest.precision, {})

    def predict(self, columns: Columns) -> NDArray[np.float64]:
        rows = self._matrix(columns).astype(self._type)
        values = np.asarray(self._gtil.predict(self._model, rows, nthread=1))
        return values.reshape(len(rows), -1)[:, -1].astype(np.float64)


def _matrix(inputs: Sequence[Column], precision: str, words: Mapping[int, Sequence[Any]]) -> Matrix:
    """Columns to rows of floats; what has words becomes their codes, and NaN where a word is unknown or null."""
    if not words:
        build = feed(inputs, MATRIX, precision)
        return lambda columns: build(columns)[MATRIX_INPUT]
    dtype = float_type(precision)
    codes = [
        ({word: float(code) for code, word in enumerate(words[place])} if place in words else None)
        for place in range(len(inputs))
    ]
    names = [column.name for column in inputs]

    def coded(columns: Columns) -> NDArray[Any]:
        parts = [
            np.array(columns[name] if known is None else [known.get(one, np.nan) for one in columns[name]], dtype)
            for name, known in zip(names, codes, strict=True)
        ]
        return np.column_stack(parts)

    return coded


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as problem:
        raise PackagingFailed(
            f"this model runs on {name}, which cannot be imported here ({problem}); install trueline[{name}]"
        ) from problem


def _reading(path: Path, read: Callable[[str], Any]) -> Any:
    try:
        return read(str(path))
    except Exception as problem:  # each library raises a class of its own
        first = str(problem).strip().splitlines() or [type(problem).__name__]
        raise PackagingFailed(f"{path} cannot be read as a model: {first[0][:200]}") from problem
