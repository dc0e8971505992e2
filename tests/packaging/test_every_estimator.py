"""Whatever executor is chosen for an estimator, it says what the estimator says, one row or many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

from trueline.packaging.executors import load
from trueline.packaging.parity import TOLERANCE, as_columns

NUMBERS = ["distance", "wait", "hour"]
HOLES = [*NUMBERS, "wind", "stops"]
WORDS = ["carrier"]


def one_hot(*columns: str) -> Any:
    return make_column_transformer((OneHotEncoder(handle_unknown="ignore"), list(columns)), (StandardScaler(), NUMBERS))


def ordinal() -> Any:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return make_column_transformer((encoder, WORDS), remainder="passthrough")


def boosted(**given: Any) -> Any:
    return HistGradientBoostingRegressor(max_iter=30, random_state=0, **given)


def boosted_classifier(**given: Any) -> Any:
    return HistGradientBoostingClassifier(max_iter=30, random_state=0, **given)


REGRESSORS = {
    "linear": (LinearRegression(), NUMBERS, "onnx"),
    "linear, float64 column": (LinearRegression(), ["exact", "wait"], "onnx"),
    "ridge after one-hot": (make_pipeline(one_hot("carrier"), Ridge()), NUMBERS + WORDS, "onnx"),
    "ridge after imputing": (make_pipeline(SimpleImputer(), StandardScaler(), Ridge()), HOLES, "onnx"),
    "searched ridge": (GridSearchCV(Ridge(), {"alpha": [1.0, 2.0]}, cv=2), NUMBERS, "onnx"),
    "boosting": (boosted(), NUMBERS, "onnx"),
    "boosting, one column": (boosted(), ["wait"], "onnx"),
    "boosting, Poisson": (boosted(loss="poisson"), NUMBERS, "onnx"),
    "boosting, float64 column": (boosted(), ["exact", "hour"], "onnx"),
    "boosting with nulls": (boosted(), HOLES, "onnx"),
    "boosting with words": (boosted(categorical_features=["carrier", "gate"]), ["carrier", "wind", "gate"], "onnx"),
    "boosting with integer and boolean categories": (
        boosted(categorical_features=["hour", "night"]),
        ["wind", "hour", "night"],
        "onnx",
    ),
    "boosting after ordinal": (make_pipeline(ordinal(), boosted()), WORDS + HOLES, "onnx"),
    "boosting on ordinal categories": (
        make_pipeline(ordinal(), boosted(categorical_features=[0])),
        WORDS + HOLES,
        "onnx",
    ),
    "boosting after scaling": (make_pipeline(StandardScaler(), boosted()), NUMBERS, None),
    "boosting after target encoding": (
        make_pipeline(make_column_transformer((TargetEncoder(), WORDS), remainder="passthrough"), boosted()),
        WORDS + NUMBERS,
        None,
    ),
    "random forest": (RandomForestRegressor(10, random_state=0), NUMBERS, "onnx"),
    "gradient boosting": (GradientBoostingRegressor(n_estimators=20, random_state=0), NUMBERS, "onnx"),
    "decision tree": (DecisionTreeRegressor(random_state=0), NUMBERS, "onnx"),
    "neural network": (
        make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(8,), solver="lbfgs", max_iter=2000)),
        NUMBERS,
        "onnx",
    ),
    "nearest neighbours": (KNeighborsRegressor(), NUMBERS, None),
    "support vectors": (make_pipeline(StandardScaler(), SVR()), NUMBERS, None),
    "voting": (VotingRegressor([("a", Ridge()), ("b", RandomForestRegressor(3, random_state=0))]), NUMBERS, "onnx"),
}

CLASSIFIERS = {
    "logistic": (make_pipeline(StandardScaler(), LogisticRegression()), NUMBERS, "onnx"),
    "logistic after one-hot": (make_pipeline(one_hot("carrier"), LogisticRegression()), NUMBERS + WORDS, "onnx"),
    "boosting": (boosted_classifier(), NUMBERS, "onnx"),
    "boosting with words and nulls": (
        boosted_classifier(categorical_features=["carrier", "gate", "night"]),
        ["wind", "gate", "carrier", "night", "stops"],
        "onnx",
    ),
    "boosting on ordinal categories": (
        make_pipeline(ordinal(), boosted_classifier(categorical_features=[0])),
        WORDS + HOLES,
        "onnx",
    ),
    "random forest": (RandomForestClassifier(10, random_state=0), NUMBERS, "onnx"),
    "extra trees": (ExtraTreesClassifier(10, random_state=0), NUMBERS, "onnx"),
    "gradient boosting": (GradientBoostingClassifier(n_estimators=20, random_state=0), NUMBERS, "onnx"),
    "linear discriminant": (LinearDiscriminantAnalysis(), NUMBERS, "skops"),
    "naive Bayes": (GaussianNB(), NUMBERS, None),
    "neural network": (
        make_pipeline(StandardScaler(), MLPClassifier(hidden_layer_sizes=(8,), solver="lbfgs", max_iter=2000)),
        NUMBERS,
        "onnx",
    ),
    "calibrated": (CalibratedClassifierCV(GaussianNB(), cv=2), NUMBERS, None),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_regressor_keeps_its_predictions(name: str, rows: Any, pack: Any) -> None:
    estimator, columns, kind = REGRESSORS[name]
    estimator.fit(rows.frame[columns], rows.minutes)
    packaged = pack(estimator)
    expected = estimator.predict(rows.frame[columns])
    agree(packaged, rows, columns, expected, TOLERANCE * np.maximum(np.abs(expected), np.median(np.abs(expected))))
    assert kind in (None, packaged.kind), packaged.parity


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_keeps_its_probabilities(name: str, rows: Any, pack: Any) -> None:
    estimator, columns, kind = CLASSIFIERS[name]
    estimator.fit(rows.frame[columns], rows.late)
    packaged = pack(estimator, "classification")
    agree(packaged, rows, columns, estimator.predict_proba(rows.frame[columns])[:, 1], TOLERANCE)
    assert kind in (None, packaged.kind), packaged.parity


def agree(packaged: Any, rows: Any, columns: list[str], expected: Any, tolerance: Any) -> None:
    executor = load(packaged.folder, packaged.digest)
    assert executor.signature.names == tuple(columns)
    assert executor.in_process == (packaged.kind == "onnx")
    found = executor.predict(as_columns(rows.frame))
    assert found.dtype == np.float64
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= tolerance).all()
    one = {name: rows.frame[name][:1].to_list() for name in columns}
    assert executor.predict(one)[0] == pytest.approx(found[0], rel=1e-6)
    assert packaged.parity.worst <= TOLERANCE
    assert packaged.parity.rows > len(rows.frame)


def test_a_wrong_conversion_is_refused_and_the_difference_told(rows: Any, pack: Any) -> None:
    estimator: BaseEstimator = LinearDiscriminantAnalysis().fit(rows.frame[NUMBERS], rows.late)
    packaged = pack(estimator, "classification")
    assert packaged.kind == "skops"
    assert "differs by 0." in packaged.parity.tried[0]


def test_a_slow_conversion_is_left_for_the_native_model(rows: Any, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trueline.packaging.choice.SLOWEST_ROW", 0.0)
    packaged = pack(LinearRegression().fit(rows.frame[NUMBERS], rows.minutes))
    assert packaged.kind == "skops"
    assert "right, but a row takes longer" in packaged.parity.tried[0]
