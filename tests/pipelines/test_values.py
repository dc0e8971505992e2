"""What steps return comes back as it was, from files that are checked and execute nothing."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trueline.errors import TrainingFailed
from trueline.pipelines import values
from trueline.pipelines.outputs import Damaged, Outputs

X, Y = np.arange(12.0).reshape(6, 2), np.array([0.0, 1, 0, 1, 1, 0])


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return Outputs(tmp_path / "outputs")


def same(left: Any, right: Any) -> bool:
    if isinstance(left, pl.DataFrame | pl.Series | pa.Table):
        return left.equals(right)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right, strict=True))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    return bool(left == right)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": [1, 2.5, True, "x", None], "b": {}},
        [],
        (1, "two", [3.0]),
        b"\x00\xff",
        {"at": datetime(2026, 1, 1, tzinfo=UTC), "day": date(2026, 1, 2), "span": timedelta(hours=1.5)},
        pl.DataFrame({"a": [1, None], "b": ["x", "y"], "c": [[1], []]}),
        pl.Series("s", [1.5, None]),
        pa.table({"a": [1, 2]}),
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.float64(0.1),
        np.array(["a", "bc"]),
        (pl.DataFrame({"a": [1]}), {"scores": np.zeros(2), "n": 3}),
    ],
    ids=repr,
)
def test_a_value_comes_back_as_it_was(value: Any, outputs: Outputs, tmp_path: Path) -> None:
    tree = values.keep(value, outputs, tmp_path, "it")
    found = values.load(tree, outputs, tmp_path)
    assert type(found) is type(value)
    assert same(found, value)
    assert values.keep(value, outputs, tmp_path, "it") == tree, "equal values are equal files"


def test_a_pandas_frame_comes_back_with_its_index(outputs: Outputs, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    found = values.load(values.keep((frame, frame["a"]), outputs, tmp_path, "it"), outputs, tmp_path)
    assert found[0].equals(frame)
    assert found[1].equals(frame["a"])
    assert found[1].name == "a"


def test_an_estimator_is_the_same_file_each_time_it_is_fitted(outputs: Outputs, tmp_path: Path) -> None:
    trees = []
    for _ in range(2):
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
        trees.append(values.keep({"model": model, "score": 0.5}, outputs, tmp_path, "it"))
    assert trees[0] == trees[1]
    found = values.load(trees[0], outputs, tmp_path, ["model"])
    assert np.array_equal(found.predict_proba(X), model.predict_proba(X))


def test_an_object_of_the_project_s_own_is_kept_and_a_stranger_s_is_not(
    outputs: Outputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "class Clip:\n    def __init__(self, low):\n        self.low = low\n"
    for name, folder in {"mine": tmp_path / "project", "theirs": tmp_path / "elsewhere"}.items():
        folder.mkdir()
        (folder / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder))
    import mine
    import theirs

    try:
        tree = values.keep(mine.Clip(3), outputs, tmp_path / "project", "what fit returns")
        assert values.load(tree, outputs, tmp_path / "project").low == 3
        with pytest.raises(
            TrainingFailed, match=r"what fit returns is a theirs.Clip, which cannot be kept \(it holds a"
        ):
            values.keep(theirs.Clip(3), outputs, tmp_path / "project", "what fit returns")
    finally:
        del sys.modules["mine"], sys.modules["theirs"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (lambda: 1, "it is a function, which cannot be kept"),
        ({1: 2}, "it is a dict with the key 1"),
        ([object()], r"it\[0\] is a object, which cannot be kept"),
        (np.array([object()]), "Object arrays cannot be saved"),
        (iter([1]), "which cannot be kept"),
        (pl.DataFrame({"a": [1]}).lazy(), "which cannot be kept"),
    ],
)
def test_what_has_no_form_is_told(value: Any, says: str, outputs: Outputs, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=says):
        values.keep(value, outputs, tmp_path, "it")
    assert not list(outputs.root.glob(".draft-*"))


def test_a_part_has_a_digest_of_its_own(outputs: Outputs, tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1], "b": [2]})
    one = values.keep((frame, np.zeros(1)), outputs, tmp_path, "it")
    other = values.keep((frame, np.ones(1)), outputs, tmp_path, "it")
    assert values.digest(one) != values.digest(other)
    assert values.digest(one, [0]) == values.digest(other, [0])
    assert values.digest(one, [0, "a"]) != values.digest(one, [0, "b"])
    assert values.load(one, outputs, tmp_path, [0, "b"]).to_list() == [2]
    with pytest.raises(TrainingFailed, match="there is no 5 in it; it has 2 parts"):
        values.load(one, outputs, tmp_path, [5])


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_a_damaged_file_is_noticed_when_it_is_read(harm: Any, outputs: Outputs, tmp_path: Path) -> None:
    tree = values.keep(LinearRegression().fit(X, Y), outputs, tmp_path, "it")
    ((digest, _),) = values.leaves(tree)
    harm(outputs.path(digest))
    assert not values.present(tree, outputs)
    with pytest.raises(Damaged, match="is missing or damaged; the step that made it runs again"):
        values.load(tree, outputs, tmp_path)
