"""Model folders are MLflow's too: checked with MLflow itself where the full package is installed."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.neighbors import KNeighborsRegressor

full_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow.models") is None or importlib.util.find_spec("pandas") is None,
    reason="reading models needs the full mlflow package",
)


def pyfunc(folder: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

        return mlflow.pyfunc.load_model(str(folder))


def test_the_page_of_the_model_has_what_mlflow_writes(rows: Any, pack: Any) -> None:
    packaged = pack(HistGradientBoostingRegressor(max_iter=3).fit(rows.frame[["wait", "stops"]], rows.minutes))
    page = yaml.safe_load((packaged.folder / "MLmodel").read_text())
    assert page["flavors"]["python_function"]["loader_module"] == "mlflow.onnx"
    assert page["signature"]["inputs"] == (
        '[{"type": "float", "name": "wait", "required": true}, {"type": "double", "name": "stops", "required": true}]'
    )
    names = {path.name for path in packaged.folder.iterdir()}
    assert names >= {"MLmodel", "requirements.txt", "conda.yaml", "python_env.yaml", "input_example.json", "model.onnx"}


@full_mlflow
def test_mlflow_predicts_with_a_matrix_model(rows: Any, pack: Any) -> None:
    columns = ["distance", "wait"]
    model = HistGradientBoostingRegressor(max_iter=10).fit(rows.frame[columns], rows.minutes)
    loaded = pyfunc(pack(model).folder)
    found = loaded.predict(rows.frame[columns].to_pandas())
    assert found["prediction"].to_numpy() == pytest.approx(model.predict(rows.frame[columns]), rel=1e-5)


@full_mlflow
def test_mlflow_predicts_with_a_model_of_words(rows: Any, pack: Any) -> None:
    columns = ["wait", "carrier", "hour"]
    model = HistGradientBoostingClassifier(max_iter=10, categorical_features=["carrier"])
    model.fit(rows.frame[columns], rows.late)
    loaded = pyfunc(pack(model, "classification").folder)
    found = loaded.predict(rows.frame[columns].to_pandas().astype({"carrier": object}))
    assert found["prediction"].to_numpy() == pytest.approx(model.predict_proba(rows.frame[columns])[:, 1], abs=1e-5)


@full_mlflow
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_mlflow_predicts_with_a_native_model(rows: Any, pack: Any, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trueline.packaging.build.recipes", lambda *_: ())
    columns = ["distance", "wait"]
    classify = task == "classification"
    model = LinearDiscriminantAnalysis() if classify else KNeighborsRegressor()
    model.fit(rows.frame[columns], rows.late if classify else rows.minutes)
    loaded = pyfunc(pack(model, task).folder)
    found = np.asarray(loaded.predict(rows.frame[columns].to_pandas()))
    expected = model.predict_proba(rows.frame[columns]) if classify else model.predict(rows.frame[columns])
    assert found == pytest.approx(expected, rel=1e-5)


@full_mlflow
@pytest.mark.parametrize("kind", ["xgboost", "lightgbm", "treelite"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_mlflow_predicts_with_a_booster(
    rows: Any, pack: Any, kind: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trueline.packaging.build.recipes", lambda *_: ())
    monkeypatch.setattr(
        "trueline.packaging.choice.LEAST", {"treelite": 1.0 if kind != "treelite" else 0.0, "skops": 1.0}
    )
    columns = ["distance", "wait", "hour"]
    classify = task == "classification"
    library = importlib.import_module("lightgbm" if kind == "lightgbm" else "xgboost")
    name = ("LGBM" if kind == "lightgbm" else "XGB") + ("Classifier" if classify else "Regressor")
    quiet = {"verbose": -1} if kind == "lightgbm" else {}
    model = getattr(library, name)(n_estimators=5, n_jobs=1, **quiet)
    model.fit(rows.frame[columns], rows.late if classify else rows.minutes)
    packaged = pack(model, task)
    page = yaml.safe_load((packaged.folder / "MLmodel").read_text())
    assert page["flavors"]["python_function"]["loader_module"] == (
        "mlflow.lightgbm" if kind == "lightgbm" else "mlflow.xgboost"
    )
    assert f"{library.__name__}=={library.__version__}" in (packaged.folder / "requirements.txt").read_text()
    found = np.asarray(pyfunc(packaged.folder).predict(rows.frame[columns].to_pandas()))
    expected = model.predict_proba(rows.frame[columns])[:, 1] if classify else model.predict(rows.frame[columns])
    assert found == pytest.approx(expected, rel=1e-5)
