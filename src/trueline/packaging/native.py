"""The fitted estimator itself: predicting with it, and keeping it in a skops file that executes nothing.

skops reads a file's types by name and builds only trusted ones. Its own list is short; what a model needs beyond it is
recorded when it is packaged, and must come from a numerical library, both then and again at every load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import skops.io
from numpy.typing import NDArray

from trueline.domain.contracts import Column, Kind
from trueline.errors import PackagingFailed
from trueline.packaging import boosters
from trueline.packaging.feeds import Columns
from trueline.packaging.signature import CLASSIFICATION, Signature

PLAIN = "plain"
CATEGORICAL = "categorical"
ALLOWED = (
    "sklearn.",
    "numpy.",
    "scipy.",
    "xgboost.",
    "lightgbm.",
    "functools.partial",
    "collections.OrderedDict",
    "collections.defaultdict",
)

DTYPES: dict[Kind, Any] = {
    Kind.integer: pl.Int64,
    Kind.float32: pl.Float32,
    Kind.float64: pl.Float64,
    Kind.string: pl.String,
    Kind.boolean: pl.Boolean,
    Kind.datetime: pl.Datetime("us"),
}


def predictor(estimator: Any, signature: Signature, layout: str) -> Callable[[Columns], NDArray[np.float64]]:
    """The estimator's prediction as a function of columns, in the layout it was fitted with."""
    if boosters.library(estimator) == boosters.LIGHTGBM and (
        _has_words(signature) or boosters.booster(estimator).pandas_categorical
    ):
        return _of_pandas(estimator, signature, layout)
    dtypes = {column.name: dtype(column, layout) for column in signature.inputs}
    classify = signature.task == CLASSIFICATION

    def predict(columns: Columns) -> NDArray[np.float64]:
        # not strict: JSON may say 3.0 where the contract has an integer, and it has passed the contract
        series = {name: pl.Series(name, columns[name], dtype=kind, strict=False) for name, kind in dtypes.items()}
        frame = pl.DataFrame(series)
        values = np.asarray(estimator.predict_proba(frame)[:, 1] if classify else estimator.predict(frame))
        return values.reshape(len(frame)).astype(np.float64)

    return predict


def _has_words(signature: Signature) -> bool:
    return any(column.kind is Kind.string for column in signature.inputs)


def _of_pandas(estimator: Any, signature: Signature, layout: str) -> Callable[[Columns], NDArray[np.float64]]:
    """LightGBM with categories: it knows them only from pandas, and ends the process when Polars brings some."""
    classify = signature.task == CLASSIFICATION
    words = {column.name for column in signature.inputs if column.kind is Kind.string}

    def predict(columns: Columns) -> NDArray[np.float64]:
        if layout != CATEGORICAL:
            raise PackagingFailed("LightGBM takes words only as pandas categories")
        pd = import_module("pandas")  # only for those who fitted on it
        frame = pd.DataFrame(
            {
                name: pd.Categorical(list(columns[name]))
                if name in words
                else np.array(columns[name], dtype=np.float64)
                for name in signature.names
            }
        )
        values = np.asarray(estimator.predict_proba(frame)[:, 1] if classify else estimator.predict(frame))
        return values.reshape(len(frame)).astype(np.float64)

    return predict


def dtype(column: Column, layout: str) -> Any:
    """The Polars type a column has in the frame given to the estimator."""
    if layout == CATEGORICAL and column.kind is Kind.string and column.categories is not None:
        return pl.Enum(column.categories)
    return DTYPES[column.kind]


def write(estimator: Any, path: Path) -> tuple[str, ...]:
    """Dump the estimator; answers the types beyond skops' own list, all of them allowed."""
    try:
        skops.io.dump(estimator, path)
        needed = tuple(sorted(skops.io.get_untrusted_types(file=path)))
    except Exception as problem:  # skops raises whatever a type's own reduction raises
        raise PackagingFailed(
            f"{type(estimator).__name__} cannot be kept in a skops file: {type(problem).__name__}: {problem}"
        ) from problem
    _check_types(needed)
    return needed


def read(path: Path, trusted: Iterable[str]) -> Any:
    """The estimator of a skops file, if it needs no type beyond those recorded, and those are allowed."""
    types = list(trusted)
    _check_types(types)
    try:
        return skops.io.load(path, trusted=types)
    except Exception as problem:  # as above
        raise PackagingFailed(f"skops cannot load {path}: {type(problem).__name__}: {problem}") from problem


def _check_types(types: Iterable[str]) -> None:
    foreign = [name for name in types if not name.startswith(ALLOWED)]
    if foreign:
        raise PackagingFailed(
            f"the model holds {', '.join(foreign)}, which is not a type of scikit-learn, NumPy, SciPy, XGBoost or "
            "LightGBM, and a server would have to run code from the file for it; build the estimator from those "
            "libraries' parts"
        )
