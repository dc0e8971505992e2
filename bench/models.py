"""Models to measure with, packaged as trueline packages them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from trueline.domain import routes
from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.domain.routes import Arm, Route, RouteTable
from trueline.packaging.build import Packaged, package
from trueline.settings import StateFolder

NAMES = tuple(f"f{number}" for number in range(12))
CONTRACT = Contract((*(Column(name, Kind.float32) for name in NAMES), Column("y", Kind.float32, role=Role.target)))
ROWS = 4_000

ESTIMATORS: Mapping[str, tuple[str, Callable[[], Any]]] = {
    "hist gradient boosting": ("classification", lambda: HistGradientBoostingClassifier(max_iter=100, random_state=0)),
    "gradient boosting": ("regression", lambda: GradientBoostingRegressor(n_estimators=100, random_state=0)),
    "random forest": ("classification", lambda: RandomForestClassifier(n_estimators=50, random_state=0)),
    "decision tree": ("regression", lambda: DecisionTreeRegressor(max_depth=10, random_state=0)),
    "ridge": ("regression", lambda: make_pipeline(StandardScaler(), Ridge())),
    "logistic regression": ("classification", lambda: make_pipeline(StandardScaler(), LogisticRegression())),
    "naive Bayes": ("classification", GaussianNB),
}


def rows(count: int = ROWS) -> tuple[pl.DataFrame, Any]:
    draw = np.random.default_rng(5)
    values = draw.normal(size=(count, len(NAMES))).astype(np.float32)
    target = values[:, 0] * 2 + np.sin(values[:, 1] * 3) + draw.normal(size=count) * 0.3
    return pl.DataFrame(dict(zip(NAMES, values.T, strict=True))), target


def packaged(name: str, folder: Path) -> Packaged:
    task, make = ESTIMATORS[name]
    frame, target = rows()
    known = (target > 0).astype(int) if task == "classification" else target
    half = len(known) // 2
    fitted = make().fit(frame.head(half), known[:half])
    created = datetime(2026, 1, 1, tzinfo=UTC)
    return package(fitted, rows=frame.tail(half), contract=CONTRACT, task=task, folder=folder, created=created)


def table(models: Mapping[int, Packaged], champion: int, epoch: int) -> RouteTable:
    """Every model loaded, one of them answering."""
    found = [
        Route(
            number,
            Arm.champion if number == champion else Arm.shadow,
            float(number == champion),
            str(one.folder),
            one.digest,
        )
        for number, one in models.items()
    ]
    return RouteTable(epoch=epoch, model="bench", routes=tuple(found))


def state(folder: Path, models: Mapping[int, Packaged], champion: int) -> StateFolder:
    """A state folder from which a serving process starts with these models."""
    made = StateFolder(folder).create()
    made.routes.write_text(routes.dumps(table(models, champion, 1)))
    return made
