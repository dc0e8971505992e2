"""Trees kept for an executor of trees: the library's own booster file, or a Treelite file of any forest.

Beside a Treelite file lies the model as its own library keeps it, for readers that know no Treelite (MLflow is one).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trueline.domain.contracts import Kind
from trueline.packaging import boosters, native
from trueline.packaging.boosters import LIGHTGBM, XGBOOST
from trueline.packaging.choice import Candidate
from trueline.packaging.feeds import MATRIX
from trueline.packaging.manifest import SKOPS, TREELITE, Manifest, file_of

ROWS_ARE_FLOAT32 = (  # scikit-learn rounds the rows before these trees compare them
    "RandomForestRegressor", "RandomForestClassifier", "ExtraTreesRegressor", "ExtraTreesClassifier",
    "GradientBoostingRegressor", "GradientBoostingClassifier",
)  # fmt: skip
ROWS_ARE_FLOAT64 = ("HistGradientBoostingRegressor", "HistGradientBoostingClassifier")


def candidates(estimator: Any, base: Manifest) -> Iterator[Candidate]:
    """The ways that keep trees as trees; none for what is no bare tree model."""
    library = boosters.library(estimator)
    if library is not None:
        chosen = replace(base, kind=library, layout=MATRIX, precision=_precision(estimator))
        yield Candidate(f"native, {library}", chosen, lambda path, page: _own_file(estimator, path, page))
    words = any(column.kind is Kind.string for column in base.signature.inputs)
    if (
        (library or type(estimator).__name__ in ROWS_ARE_FLOAT32 + ROWS_ARE_FLOAT64)
        and not words
        and find_spec(TREELITE)
    ):
        chosen = replace(base, kind=TREELITE, layout=MATRIX, precision=_precision(estimator))
        yield Candidate("Treelite, GTIL", chosen, lambda path, page: _treelite_file(estimator, path, page))


def _precision(estimator: Any) -> str:
    """What the trees compare rows in."""
    single = boosters.library(estimator) == XGBOOST or type(estimator).__name__ in ROWS_ARE_FLOAT32
    return "float32" if single else "float64"


def _own_file(estimator: Any, path: Path, page: Manifest) -> Manifest:
    boosters.write(estimator, path)
    return page


def _treelite_file(estimator: Any, path: Path, page: Manifest) -> Manifest:
    library = boosters.library(estimator)
    if library is None:
        model = import_module("treelite.sklearn").import_model(estimator)
    else:
        frontend = import_module("treelite.frontend")
        read = {XGBOOST: frontend.from_xgboost, LIGHTGBM: frontend.from_lightgbm}[library]
        model = read(boosters.booster(estimator))
    model.serialize(str(path))
    if library is not None:
        boosters.write(estimator, path.with_name(file_of(library)))
        return page
    return replace(page, trusted=native.write(estimator, path.with_name(file_of(SKOPS))))
