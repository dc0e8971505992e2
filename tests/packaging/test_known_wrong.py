"""Conversions that are wrong without a word, as skl2onnx has them: each is shown to be wrong, and not to be taken.

When one of these is mended there, its test here fails; then the sentence about it in docs/executors.md goes too.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
from numpy.typing import NDArray
from skl2onnx import _supported_operators, convert_sklearn
from skl2onnx.common._container import ModelComponentContainer
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.base import is_classifier
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestRegressor

from trueline.packaging import graph
from trueline.packaging.executors import load
from trueline.packaging.parity import TOLERANCE, as_columns

NUMBERS = ["distance", "wait", "hour"]


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Conversion by skl2onnx alone, then its model's probabilities or values."""
    names = _supported_operators.sklearn_operator_name_map
    for kind in (HistGradientBoostingRegressor, HistGradientBoostingClassifier):
        monkeypatch.setitem(names, kind, f"Sklearn{kind.__name__}")  # ours may have taken the place
    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
    add_node = ModelComponentContainer.add_node

    def mended(*given: Any, **attributes: Any) -> Any:
        """With integers where skl2onnx has booleans, as older versions of protobuf took them."""
        return add_node(*given, **{name: _integers(value) for name, value in attributes.items()})

    def run(estimator: Any, matrix: NDArray[Any], *, mend: bool = True) -> NDArray[Any]:
        if mend:
            monkeypatch.setattr(ModelComponentContainer, "add_node", mended)
        double = matrix.dtype == np.float64
        kind = (DoubleTensorType if double else FloatTensorType)([None, matrix.shape[1]])
        options = {id(estimator): {"zipmap": False}} if is_classifier(estimator) else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = convert_sklearn(
                estimator, initial_types=[("X", kind)], target_opset=dict(graph.OPSETS), options=options
            )
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found = session.run(None, {"X": matrix})[-1]
        return np.asarray(found[:, 1] if is_classifier(estimator) else found.reshape(-1))

    return run


def _integers(value: Any) -> Any:
    if isinstance(value, list):
        return [int(one) if isinstance(one, bool | np.bool_) else one for one in value]
    return value


def served(packaged: Any, frame: pl.DataFrame) -> NDArray[np.float64]:
    return load(packaged.folder, packaged.digest).predict(as_columns(frame))


def test_linear_discriminants_lose_their_probabilities(rows: Any, pack: Any, theirs: Any) -> None:
    frame = rows.frame[NUMBERS]
    model = LinearDiscriminantAnalysis().fit(frame, rows.late)
    own = model.predict_proba(frame)[:, 1]
    assert np.abs(theirs(model, frame.to_numpy().astype(np.float32)) - own).max() > 0.05
    packaged = pack(model, "classification")
    assert packaged.kind == "skops"
    assert any("differs by 0." in sentence for sentence in packaged.parity.tried)
    assert np.abs(served(packaged, frame) - own).max() <= TOLERANCE


def test_boosting_loses_its_categories(rows: Any, pack: Any, theirs: Any) -> None:
    frame = rows.frame["wait", "hour"]
    model = HistGradientBoostingClassifier(max_iter=20, categorical_features=["hour"]).fit(frame, rows.late)
    own = model.predict_proba(frame)[:, 1]
    assert np.abs(theirs(model, frame.to_numpy().astype(np.float32)) - own).max() > 0.05
    packaged = pack(model, "classification")
    assert packaged.kind == "onnx"  # our own writer's
    assert np.abs(served(packaged, frame) - own).max() <= TOLERANCE


def test_boosting_loses_where_a_missing_category_goes(rows: Any, pack: Any, theirs: Any) -> None:
    """A nullable category: as a number it is neither equal nor unequal to any other."""
    frame = rows.frame[["wind", "stops"]]
    model = HistGradientBoostingClassifier(max_iter=20, categorical_features=["stops"]).fit(frame, rows.late)
    own = model.predict_proba(frame)[:, 1]
    matrix = frame.select(pl.all().cast(pl.Float32)).to_numpy()
    missing = np.isnan(matrix[:, 1])
    assert np.abs(theirs(model, matrix) - own)[missing].max() > 0.01
    assert np.abs(served(pack(model, "classification"), frame) - own).max() <= TOLERANCE


def test_boosting_of_counts_loses_its_link(rows: Any, pack: Any, theirs: Any) -> None:
    frame = rows.frame[NUMBERS]
    model = HistGradientBoostingRegressor(loss="poisson", max_iter=20).fit(frame, rows.minutes)
    own = model.predict(frame)
    assert np.abs(theirs(model, frame.to_numpy().astype(np.float32)) - own).max() > 0.5 * np.median(
        own
    )  # its logarithm
    assert (np.abs(served(pack(model), frame) - own) <= TOLERANCE * np.maximum(own, np.median(own))).all()


def test_rows_on_a_threshold_change_sides(pack: Any, theirs: Any) -> None:
    """A float64 threshold rounded to the nearest float32 may pass the float32 value it separates from the next."""
    low = np.float32(0.1)
    high = np.nextafter(low, np.float32(1))
    values = np.repeat(np.array([low, high], dtype=np.float32), 40)
    frame = pl.DataFrame({"wait": values})
    late = np.repeat([0, 1], 40)
    model = HistGradientBoostingClassifier(max_iter=5).fit(frame, late)
    own = model.predict_proba(frame)[:, 1]
    assert len(set(own)) == 2
    packaged = pack(model, "classification", rows=frame)
    assert np.abs(served(packaged, frame) - own).max() <= TOLERANCE
    assert np.abs(theirs(model, frame.to_numpy()) - own).max() > 0.1


def test_float64_trees_fail_to_load(rows: Any, pack: Any, theirs: Any) -> None:
    frame = rows.frame["exact", "wait"]
    model = HistGradientBoostingRegressor(max_iter=5).fit(frame, rows.minutes)
    with pytest.raises(Exception, match=r"INVALID_GRAPH|Type Error|FAIL"):
        theirs(model, frame.to_numpy().astype(np.float64))
    packaged = pack(model)
    assert packaged.kind == "onnx"
    assert served(packaged, frame) == pytest.approx(model.predict(frame), rel=TOLERANCE)


def test_a_forest_with_a_float64_column_holds_in_float32(rows: Any, pack: Any) -> None:
    frame = rows.frame["exact", "wait"]
    model = RandomForestRegressor(5, random_state=0, n_jobs=1).fit(frame, rows.minutes)
    packaged = pack(model)
    assert packaged.kind == "onnx"
    assert served(packaged, frame) == pytest.approx(model.predict(frame), rel=TOLERANCE)


def test_booleans_stand_where_integers_are_wanted(rows: Any, pack: Any, theirs: Any) -> None:
    """The newest protobuf refuses them, so skl2onnx's own converter of these trees fails altogether."""
    frame = rows.frame[["wait", "wind"]]
    model = HistGradientBoostingRegressor(max_iter=2).fit(frame, rows.minutes)
    with pytest.raises(ValueError, match="Unable to create node 'TreeEnsembleRegressor'"):
        theirs(model, frame.to_numpy().astype(np.float32), mend=False)
    assert pack(model).kind == "onnx"
