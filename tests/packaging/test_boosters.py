"""XGBoost and LightGBM, however they were fitted: served by ONNX Runtime where nodes can say it, else by themselves."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest
import xgboost as xgb
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trueline.errors import PackagingFailed
from trueline.packaging import edges, manifest
from trueline.packaging.executors import load
from trueline.packaging.manifest import FILES
from trueline.packaging.parity import TOLERANCE, as_columns

NUMBERS = ["distance", "wait", "hour"]
HOLES = [*NUMBERS, "wind", "stops", "exact", "night"]
WORDS = [*HOLES, "carrier"]
CARRIERS = pl.Enum(list("ABCDEFGH"))
X = {"n_estimators": 8, "n_jobs": 1}
L = {**X, "verbose": -1}


def words(frame: pl.DataFrame) -> pl.DataFrame:
    return frame[WORDS].with_columns(pl.col("carrier").cast(CARRIERS))


def pandas(frame: pl.DataFrame, *, unordered: bool = True) -> Any:
    found = words(frame).to_pandas()  # Polars' Enum becomes an ordered category, whose codes LightGBM takes for numbers
    return found.assign(carrier=found["carrier"].cat.as_unordered()) if unordered else found


REGRESSORS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "XGBoost": (lambda r: xgb.XGBRegressor(**X).fit(r.frame[NUMBERS], r.minutes), "onnx"),
    "XGBoost with nulls": (lambda r: xgb.XGBRegressor(**X).fit(r.frame[HOLES], r.minutes), "onnx"),
    "XGBoost, Poisson": (
        lambda r: xgb.XGBRegressor(**X, objective="count:poisson").fit(r.frame[HOLES], r.minutes),
        "onnx",
    ),
    "XGBoost, dropped trees": (
        lambda r: xgb.XGBRegressor(**X, booster="dart", rate_drop=0.3).fit(r.frame[HOLES], r.minutes),
        "onnx",
    ),
    "XGBoost, forest": (lambda r: xgb.XGBRFRegressor(**X).fit(r.frame[NUMBERS], r.minutes), "onnx"),
    "XGBoost with words": (
        lambda r: xgb.XGBRegressor(**X, enable_categorical=True, max_cat_to_onehot=1).fit(words(r.frame), r.minutes),
        "onnx",
    ),
    "XGBoost, stopped early": (
        lambda r: xgb.XGBRegressor(n_estimators=60, learning_rate=0.9, early_stopping_rounds=2, n_jobs=1).fit(
            r.frame[NUMBERS][:400], r.minutes[:400], eval_set=[(r.frame[NUMBERS][400:], r.minutes[400:])], verbose=False
        ),
        "onnx",
    ),
    "XGBoost, pruned": (  # nodes that were cut off stay in the file, marked as such
        lambda r: xgb.XGBRegressor(**X, tree_method="exact", gamma=500).fit(r.frame[NUMBERS], r.minutes),
        "onnx",
    ),
    "XGBoost, linear": (
        lambda r: xgb.XGBRegressor(**X, booster="gblinear").fit(r.frame[NUMBERS], r.minutes),
        "skops",
    ),
    "a bare XGBoost booster": (lambda r: xgb.train({}, xgb.DMatrix(r.frame[HOLES], r.minutes), 5), "onnx"),
    "XGBoost after scaling": (
        lambda r: make_pipeline(StandardScaler(), xgb.XGBRegressor(**X)).fit(r.frame[NUMBERS], r.minutes),
        "onnx",
    ),
    "LightGBM": (lambda r: lgb.LGBMRegressor(**L).fit(r.frame[NUMBERS], r.minutes), "onnx"),
    "LightGBM with nulls": (lambda r: lgb.LGBMRegressor(**L).fit(r.frame[HOLES], r.minutes), "onnx"),
    "LightGBM, Poisson": (
        lambda r: lgb.LGBMRegressor(**L, objective="poisson").fit(r.frame[HOLES], r.minutes),
        "onnx",
    ),
    "LightGBM, forest": (
        lambda r: lgb.LGBMRegressor(**L, boosting_type="rf", bagging_freq=1, bagging_fraction=0.6).fit(
            r.frame[HOLES], r.minutes
        ),
        "onnx",
    ),
    "LightGBM with words": (
        lambda r: lgb.LGBMRegressor(**L, min_data_per_group=5, cat_smooth=1).fit(pandas(r.frame), r.minutes),
        "onnx",
    ),
    "LightGBM with ordered words": (
        lambda r: lgb.LGBMRegressor(**L).fit(pandas(r.frame, unordered=False), r.minutes),
        "onnx",
    ),
    "LightGBM, zero as missing": (
        lambda r: lgb.LGBMRegressor(**L, zero_as_missing=True).fit(r.frame[HOLES], r.minutes),
        "lightgbm",
    ),
    "LightGBM, linear leaves": (
        lambda r: lgb.LGBMRegressor(**L, linear_tree=True).fit(r.frame[NUMBERS], r.minutes),
        "lightgbm",
    ),
    "a bare LightGBM booster": (
        lambda r: lgb.train({"verbose": -1}, lgb.Dataset(r.frame[HOLES], r.minutes), 5),
        "onnx",
    ),
    "LightGBM after scaling": (
        lambda r: make_pipeline(StandardScaler(), lgb.LGBMRegressor(**L)).fit(r.frame[NUMBERS], r.minutes),
        "onnx",
    ),
}
CLASSIFIERS: dict[str, Callable[[Any], Any]] = {
    "XGBoost": lambda r: xgb.XGBClassifier(**X).fit(r.frame[HOLES], r.late),
    "LightGBM": lambda r: lgb.LGBMClassifier(**L).fit(r.frame[HOLES], r.late),
    "a bare XGBoost booster": lambda r: xgb.train(
        {"objective": "binary:logistic"}, xgb.DMatrix(r.frame[HOLES], r.late), 5
    ),
    "a bare LightGBM booster": lambda r: lgb.train(
        {"objective": "binary", "verbose": -1}, lgb.Dataset(r.frame[HOLES], r.late), 5
    ),
    "XGBoost after scaling": lambda r: make_pipeline(StandardScaler(), xgb.XGBClassifier(**X)).fit(
        r.frame[NUMBERS], r.late
    ),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_booster_keeps_its_predictions(name: str, rows: Any, pack: Any) -> None:
    make, kind = REGRESSORS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, about feature names
        packaged = pack(make(rows))
    assert packaged.kind == kind, packaged.parity
    assert packaged.parity.worst <= TOLERANCE
    assert packaged.parity.rows > len(rows.frame)  # edges were among them


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_booster_keeps_its_probabilities(name: str, rows: Any, pack: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packaged = pack(CLASSIFIERS[name](rows), "classification")
    assert packaged.kind == "onnx", packaged.parity
    assert packaged.parity.worst <= TOLERANCE


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm", "treelite"])
def test_each_executor_of_trees_says_what_its_model_says(
    kind: str, rows: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(kind, monkeypatch)
    model: Any = (lgb.LGBMRegressor(**L) if kind == "lightgbm" else xgb.XGBRegressor(**X)).fit(
        rows.frame[HOLES], rows.minutes
    )
    packaged = pack(model)
    assert packaged.kind == kind
    executor = load(packaged.folder, packaged.digest)
    assert not executor.in_process  # C++ that trusts its file: a child's business
    found = executor.predict(as_columns(rows.frame))
    assert found.dtype == np.float64
    assert found == pytest.approx(model.predict(rows.frame[HOLES]).astype(float), rel=1e-5)
    one = {name: rows.frame[name][:1].to_list() for name in HOLES}
    assert executor.predict(one).tolist() == pytest.approx(found[:1].tolist())


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
def test_a_booster_of_its_own_library_knows_words(
    kind: str, rows: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(kind, monkeypatch)
    make, _ = REGRESSORS["XGBoost with words" if kind == "xgboost" else "LightGBM with words"]
    packaged = pack(make(rows))
    assert packaged.kind == kind, packaged.parity
    executor = load(packaged.folder, packaged.digest)
    columns = as_columns(rows.frame[WORDS])

    def answers(word: str | None) -> list[float]:
        return executor.predict(columns | {"carrier": [word] * len(rows.frame)}).tolist()

    assert answers("A") != answers("E")
    assert answers(None) == answers("never seen")


def test_a_forest_of_scikit_learn_runs_on_treelite(rows: Any, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    only("treelite", monkeypatch)
    model = HistGradientBoostingRegressor(max_iter=3).fit(rows.frame[HOLES], rows.minutes)
    packaged = pack(model)
    assert packaged.kind == "treelite"
    assert packaged.parity.worst < 1e-14  # float64 throughout
    assert (packaged.folder / "model.skops").exists()  # for readers without Treelite


def only(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the others had been slower."""
    monkeypatch.setattr("trueline.packaging.build.recipes", lambda *_: ())
    kinds = ("xgboost", "lightgbm", "treelite", "skops")
    monkeypatch.setattr("trueline.packaging.choice.CLEARLY", 1e-6 if kind == "treelite" else 1e9)
    monkeypatch.setattr("trueline.packaging.choice.LEAST", {one: 0.0 if one == kind else 1e9 for one in kinds})


def test_edge_rows_lie_on_the_thresholds_of_boosters_too(rows: Any) -> None:
    for model in (xgb.XGBRegressor(**X), lgb.LGBMRegressor(**L)):
        points = edges.split_points(model.fit(rows.frame[NUMBERS], rows.minutes), NUMBERS)
        assert set(points) == set(NUMBERS)
        assert all(np.isfinite(values).all() for values in points.values())


def test_a_model_without_its_library_is_refused_in_a_sentence(
    rows: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    only("lightgbm", monkeypatch)
    packaged = pack(lgb.LGBMRegressor(**L).fit(rows.frame[NUMBERS], rows.minutes))
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(PackagingFailed, match=r"runs on lightgbm.*install trueline\[lightgbm\]"):
        load(packaged.folder, packaged.digest)


def test_a_torn_booster_file_is_refused_in_a_sentence(rows: Any, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    only("xgboost", monkeypatch)
    packaged = pack(xgb.XGBRegressor(**X).fit(rows.frame[NUMBERS], rows.minutes))
    (packaged.folder / FILES["xgboost"]).write_bytes(b"no model")
    manifest.write(packaged.folder, manifest.read(packaged.folder))  # as if it had been packaged so
    with pytest.raises(PackagingFailed, match=r"model\.ubj cannot be read as a model"):
        load(packaged.folder, None)


def test_without_treelite_the_others_are_tried(rows: Any, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("trueline.packaging.tree_models")
    monkeypatch.setattr("trueline.packaging.build.recipes", lambda *_: ())
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    packaged = pack(xgb.XGBRegressor(**X).fit(rows.frame[NUMBERS], rows.minutes))
    assert packaged.kind == "xgboost"
    assert not Path(packaged.folder / "model.treelite").exists()
