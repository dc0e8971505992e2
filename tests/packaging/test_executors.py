from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from trueline.errors import NotFound, PackagingFailed
from trueline.packaging import manifest
from trueline.packaging.executors import load
from trueline.packaging.trees import floor_to_float32


@pytest.fixture
def boosting(rows: Any, pack: Any) -> Any:
    columns = ["wind", "carrier", "stops"]
    model = HistGradientBoostingRegressor(max_iter=10, categorical_features=["carrier"])
    model.fit(rows.frame[columns], rows.minutes)
    return pack(model)


def test_a_changed_file_is_noticed_before_it_is_loaded(boosting: Any) -> None:
    model = boosting.folder / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(PackagingFailed, match="not the one that was registered"):
        load(boosting.folder, boosting.digest)


def test_an_added_file_is_noticed(boosting: Any) -> None:
    (boosting.folder / "extra.py").write_text("")
    with pytest.raises(PackagingFailed, match="expected sha256:"):
        load(boosting.folder, boosting.digest)


def test_a_folder_without_a_manifest_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is not a packaged model"):
        load(tmp_path, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"format": 99}, "packaged in format 99"), ({"kind": "other"}, "needs an executor called 'other'")],
)
def test_a_manifest_of_another_time_is_refused(boosting: Any, change: dict[str, Any], says: str) -> None:
    path = boosting.folder / "trueline.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PackagingFailed, match=says):
        load(boosting.folder, None)


def test_a_torn_manifest_and_a_torn_model_are_refused(boosting: Any) -> None:
    (boosting.folder / "model.onnx").write_bytes(b"no model")
    with pytest.raises(PackagingFailed, match=r"model\.onnx is damaged or another model's"):
        load(boosting.folder, None)
    manifest.write(boosting.folder, manifest.read(boosting.folder))  # as if it had been packaged so
    with pytest.raises(PackagingFailed, match="ONNX Runtime cannot load"):
        load(boosting.folder, None)
    (boosting.folder / "trueline.json").write_text("{")
    with pytest.raises(PackagingFailed, match="cannot be read"):
        load(boosting.folder, None)


def test_null_nan_and_unseen_words_are_answered_alike(boosting: Any) -> None:
    executor = load(boosting.folder, boosting.digest)
    nothing = executor.predict({"wind": [None], "carrier": ["?"], "stops": [None]})
    assert nothing == executor.predict({"wind": [float("nan")], "carrier": ["never"], "stops": [None], "more": [1]})
    assert np.isfinite(nothing).all()


def test_lists_and_arrays_are_the_same_to_an_executor(boosting: Any) -> None:
    executor = load(boosting.folder, boosting.digest)
    lists = {"wind": [0.1, None, 2.0], "carrier": ["A", "B", "C"], "stops": [1, 2, None]}
    arrays = {"wind": np.array([0.1, np.nan, 2.0]), "carrier": lists["carrier"], "stops": np.array([1, 2, np.nan])}
    assert executor.predict(lists).tolist() == executor.predict(arrays).tolist()


def test_a_batch_says_what_its_rows_say(rows: Any, pack: Any) -> None:
    packaged = pack(LinearRegression().fit(rows.frame[["distance", "hour"]], rows.minutes))
    executor = load(packaged.folder, packaged.digest)
    batch = {"distance": [1.5, 2.5, 3.5], "hour": [1, 2, 3]}
    single = [executor.predict({name: [values[row]] for name, values in batch.items()})[0] for row in range(3)]
    assert executor.predict(batch).tolist() == pytest.approx(single)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_a_floored_threshold_splits_float32_values_as_the_float64_one(thresholds: list[float]) -> None:
    exact = np.array(thresholds)
    floored = floor_to_float32(exact)
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
        for value in (np.nextafter(nearest, np.float32(-np.inf)), nearest, np.nextafter(nearest, np.float32(np.inf))):
            assert ((value <= floored) == (value.astype(np.float64) <= exact)).all()


def test_loading_an_onnx_model_imports_nothing_heavy(boosting: Any) -> None:
    script = (
        "import sys; from pathlib import Path; from trueline.packaging.executors import load;"
        "load(Path(sys.argv[1]), sys.argv[2]).predict({'wind': [1.0], 'carrier': ['A'], 'stops': [1]});"
        "print(sorted({'sklearn', 'polars', 'pandas', 'mlflow', 'skl2onnx', 'onnx', 'sqlalchemy', 'xgboost', 'lightgbm', 'treelite'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, boosting.folder, boosting.digest], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
