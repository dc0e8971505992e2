"""The model that serving is measured with: gradient boosting, 100 iterations, 30 float columns, a probability."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import joblib
import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier

from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.packaging import build, manifest, native
from trueline.packaging.build import Packaged

COLUMNS = [f"sensor_{number:02d}" for number in range(30)]
CONTRACT = Contract(
    (
        *(Column(name, Kind.float32, minimum=-10.0, maximum=10.0) for name in COLUMNS),
        Column("fails", Kind.integer, role=Role.target),
    )
)
ITERATIONS = 100
DIFFERENT_ROWS = 256


@dataclass(frozen=True)
class Boosting:
    """One fitted model, packaged in the ways that are compared."""

    estimator: HistGradientBoostingClassifier
    rows: pl.DataFrame
    onnx: Packaged
    pickled: Path  # for the server one writes by hand
    bodies: Path  # one JSON row per line

    def again(self, folder: Path) -> Packaged:
        """The same model in another folder."""
        shutil.copytree(self.onnx.folder, folder)
        return replace(self.onnx, folder=folder)

    def native(self, folder: Path) -> Packaged:
        """The same model as the fitted estimator itself, which packaging chooses when no converter holds parity."""
        page = manifest.read(self.onnx.folder)
        folder.mkdir()
        trusted = native.write(self.estimator, folder / f"model.{manifest.SKOPS}")
        manifest.write(folder, replace(page, kind=manifest.SKOPS, layout=native.PLAIN, trusted=trusted))
        return replace(self.onnx, folder=folder, kind=manifest.SKOPS, digest=manifest.digest(folder))


def make(folder: Path, *, quick: bool) -> Boosting:
    draw = np.random.default_rng(11)
    values = draw.normal(size=(1_000 if quick else 10_000, len(COLUMNS))).clip(-9, 9).astype(np.float32)
    rows = pl.DataFrame(values, schema=COLUMNS)
    fails = (values[:, 0] * values[:, 1] + np.abs(values[:, 2]) + draw.normal(size=len(values)) > 0.8).astype(int)
    iterations = 5 if quick else ITERATIONS
    # Without early stopping: all the iterations are there to be paid for.
    estimator = HistGradientBoostingClassifier(max_iter=iterations, early_stopping=False, random_state=0)
    estimator.fit(rows, fails)
    packaged = build.package(
        estimator,
        rows=rows.head(1_000),
        contract=CONTRACT,
        task="classification",
        folder=folder / "onnx",
        created=datetime.now(UTC),
    )
    assert packaged.kind == manifest.ONNX, packaged.parity.tried
    pickled, bodies = folder / "model.joblib", folder / "bodies.jsonl"
    joblib.dump(estimator, pickled)
    bodies.write_text("".join(json.dumps(row) + "\n" for row in rows.head(DIFFERENT_ROWS).to_dicts()))
    return Boosting(estimator, rows, packaged, pickled, bodies)
