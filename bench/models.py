"""Models to measure with, packaged as trueline packages them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.packaging import build, manifest, native
from trueline.packaging.build import Packaged
from trueline.storage import trees

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = [f"f{number:02d}" for number in range(30)]
KINDS = tuple("abcdefgh")
TARGET = Column("y", Kind.float64, role=Role.target)
NUMBERS = tuple(Column(name, Kind.float32, minimum=-10.0, maximum=10.0) for name in NAMES)
CONTRACT = Contract((*NUMBERS, Column("kind", Kind.string, categories=KINDS), TARGET))
ROWS = 4_000
FEW = NAMES[:12]
CATEGORICAL = "hist gradient boosting with categories"


def one_hot() -> Any:
    return make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["kind"]), (StandardScaler(), FEW))


ESTIMATORS: Mapping[str, tuple[str, list[str], Callable[[], Any]]] = {
    "hist gradient boosting": (
        "classification",
        FEW,
        lambda: HistGradientBoostingClassifier(max_iter=100, random_state=0),
    ),
    CATEGORICAL: (
        "regression",
        [*FEW, "kind"],
        lambda: HistGradientBoostingRegressor(categorical_features=["kind"], random_state=0),
    ),
    "gradient boosting": (
        "regression",
        FEW,
        lambda: GradientBoostingRegressor(n_estimators=100, max_features=4, random_state=0),
    ),
    "random forest": ("classification", FEW, lambda: RandomForestClassifier(n_estimators=50, random_state=0)),
    "decision tree": ("regression", FEW, lambda: DecisionTreeRegressor(max_depth=10, random_state=0)),
    "ridge": ("regression", FEW, lambda: make_pipeline(StandardScaler(), Ridge())),
    "logistic regression, one-hot": (
        "classification",
        [*FEW, "kind"],
        lambda: make_pipeline(one_hot(), LogisticRegression()),
    ),
    "naive Bayes": ("classification", FEW, GaussianNB),
    "linear discriminant": ("classification", FEW, LinearDiscriminantAnalysis),
    "kernel ridge": ("regression", FEW, KernelRidge),
}


ASKED = 256
BOOSTING = "gradient boosting"
SERVED: Mapping[str, Callable[[int], Any]] = {  # how many trees or iterations, for those that have them
    # Without early stopping: all the iterations are there to be paid for.
    BOOSTING: lambda size: HistGradientBoostingClassifier(max_iter=size, early_stopping=False, random_state=0),
    "logistic regression": lambda _: LogisticRegression(),
    "random forest": lambda size: RandomForestClassifier(n_estimators=size, random_state=0),
}


def rows(count: int = ROWS, *, seed: int = 5) -> pl.DataFrame:
    """Numbers, a word, and a target that depends on some of both."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(count, len(NAMES))).clip(-9, 9).astype(np.float32)
    kind = draw.integers(0, len(KINDS), count)
    target = values[:, 0] * 2 + np.sin(values[:, 1] * 3) + kind % 3 + draw.normal(size=count) * 0.3
    words = np.array(KINDS)[kind]
    return pl.DataFrame(values, schema=NAMES).with_columns(pl.Series("kind", words), pl.Series("y", target))


@dataclass(frozen=True)
class Fitted:
    """An estimator, and how it takes rows itself."""

    estimator: Any
    task: str
    columns: list[str]
    kind: Any  # the Polars type it knows words by

    def predict(self, frame: pl.DataFrame) -> Any:
        asked = frame.with_columns(pl.col("kind").cast(self.kind)).select(self.columns)
        if self.task == "classification":
            return self.estimator.predict_proba(asked)[:, 1]
        return self.estimator.predict(asked)

    def packaged(self, frame: pl.DataFrame, folder: Path) -> Packaged:
        return build.package(
            self.estimator, rows=frame, contract=CONTRACT, task=self.task, folder=folder, created=CREATED
        )


def fitted(name: str, frame: pl.DataFrame) -> Fitted:
    """One of the estimators, fitted on half of the rows."""
    task, columns, make = ESTIMATORS[name]
    kind = pl.Enum(KINDS) if name == CATEGORICAL else pl.String
    half = frame.head(frame.height // 2)
    known = half["y"].to_numpy()
    estimator = make().fit(
        half.with_columns(pl.col("kind").cast(kind)).select(columns),
        (known > 1).astype(int) if task == "classification" else known,
    )
    return Fitted(estimator, task, columns, kind)


@dataclass(frozen=True)
class Subject:
    """A model that serving is measured with, of 30 floats; packaged, and as it is for those who serve it themselves."""

    name: str
    folder: Path
    estimator: Any
    frame: pl.DataFrame
    target: pl.Series
    packaged: Packaged
    bodies: Path  # one JSON row per line
    probabilities: Any  # what the model says to them

    @property
    def rows(self) -> list[list[float]]:
        """What is asked."""
        return [list(row) for row in self.frame.head(ASKED).rows()]

    @property
    def arrays(self) -> Path:
        """The estimator fitted without column names, which is cheapest to ask with an array."""
        return self._once("arrays.joblib", self.frame.to_numpy)

    @property
    def frames(self) -> Path:
        """The estimator fitted with column names, for those who ask with a frame."""
        return self._once("frames.joblib", lambda: self.frame)

    def _once(self, name: str, known: Callable[[], Any]) -> Path:
        path = self.folder / name
        if not path.exists():
            with threadpool_limits(1):
                joblib.dump(clone(self.estimator).fit(known(), _classes(self.target)), path)
        return path

    def again(self, folder: Path) -> Packaged:
        """The same model in another folder."""
        shutil.copytree(self.packaged.folder, folder)
        return replace(self.packaged, folder=folder)

    def native(self) -> Packaged:
        """The same model as the fitted estimator itself, which packaging takes when no converter holds parity."""
        folder = self.folder / "native"
        if not folder.exists():
            page = manifest.read(self.packaged.folder)
            folder.mkdir()
            trusted = native.write(self.estimator, folder / f"model.{manifest.SKOPS}")
            manifest.write(folder, replace(page, kind=manifest.SKOPS, layout=native.PLAIN, trusted=trusted))
        return replace(self.packaged, folder=folder, kind=manifest.SKOPS, digest=trees.digest(folder))


def subject(name: str, folder: Path, *, quick: bool) -> Subject:
    """One of SERVED, fitted and packaged."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = rows(1_000 if quick else 10_000)
    numbers = frame.select(NAMES)
    with threadpool_limits(1):  # threads that wait for each other on a busy machine take minutes
        estimator = SERVED[name](5 if quick else 100).fit(numbers, _classes(frame["y"]))
        probabilities = estimator.predict_proba(numbers.head(ASKED))[:, 1]
    packaged = Fitted(estimator, "classification", NAMES, pl.String).packaged(frame.head(1_000), folder / "packaged")
    bodies = folder / "bodies.jsonl"
    bodies.write_text("".join(json.dumps(row) + "\n" for row in numbers.head(ASKED).to_dicts()))
    return Subject(name, folder, estimator, numbers, frame["y"], packaged, bodies, probabilities)


def boosting(folder: Path, *, quick: bool) -> Subject:
    """What the targets of serving are set for."""
    return subject(BOOSTING, folder, quick=quick)


def _classes(known: pl.Series) -> Any:
    return (known.to_numpy() > 1).astype(int)
