from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from trueline.domain.contracts import Column, Contract, Kind
from trueline.errors import PackagingFailed
from trueline.packaging import edges, manifest, native
from trueline.packaging.executors import load

NUMBERS = ["distance", "wait", "hour"]


class Odd(RegressorMixin, BaseEstimator):
    """An estimator of the user's own."""

    def fit(self, frame: Any, _target: Any) -> Odd:
        self.feature_names_in_ = list(frame.columns)
        return self

    def predict(self, frame: Any) -> Any:
        return frame["wait"].to_numpy() * 2.0


def test_equal_estimators_make_equal_folders_wherever_they_are(rows: Any, pack: Any, tmp_path: Path) -> None:
    first = pack(LinearRegression().fit(rows.frame[NUMBERS], rows.minutes), folder=tmp_path / "a")
    second = pack(LinearRegression().fit(rows.frame[NUMBERS], rows.minutes), folder=tmp_path / "b" / "c")
    assert first.digest == second.digest
    moved = second.folder.rename(tmp_path / "d")
    assert load(moved, first.digest).signature == first.signature


def test_packaging_again_replaces_what_a_killed_attempt_left(rows: Any, pack: Any, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "leftover").write_text("half")
    packaged = pack(LinearRegression().fit(rows.frame[NUMBERS], rows.minutes))
    assert not (packaged.folder / "leftover").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_packaging_leaves_nothing(rows: Any, pack: Any, tmp_path: Path) -> None:
    with pytest.raises(PackagingFailed, match="not a type of scikit-learn"):
        pack(Odd().fit(rows.frame[["wait"]], rows.minutes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "task", "says"),
    [
        (lambda x, y, _: LinearRegression().fit(x[NUMBERS].to_numpy(), y), "regression", "no feature_names_in_"),
        (
            lambda x, y, _: LinearRegression().fit(x.select(speed=pl.col("wait") * 2), y),
            "regression",
            "'speed', which is not in the contract",
        ),
        (lambda x, y, _: LinearRegression().fit(x[["minutes"]], y), "regression", "the target 'minutes' itself"),
        (lambda x, _, late: Perceptron().fit(x[NUMBERS], late), "classification", "no probabilities"),
        (
            lambda x, _, late: LogisticRegression(max_iter=2000).fit(x[["wait"]], late + (x["hour"].to_numpy() > 20)),
            "classification",
            "knows 3 classes",
        ),
        (
            lambda x, y, _: LinearRegression().fit(x.select(pl.col("carrier").cast(pl.Categorical).to_physical()), y),
            "regression",
            "preparation inside the estimator",
        ),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(rows: Any, pack: Any, make: Any, task: str, says: str) -> None:
    with pytest.raises(PackagingFailed, match=says):
        pack(make(rows.frame, rows.minutes, rows.late), task)


def test_a_datetime_feature_is_refused(rows: Any, pack: Any) -> None:
    estimator = make_pipeline(FunctionTransformer(), LinearRegression())
    estimator.fit(rows.frame.select(scheduled=pl.col("scheduled").dt.timestamp()), rows.minutes)
    with pytest.raises(PackagingFailed, match="datetime column 'scheduled'"):
        pack(estimator)


def test_without_held_out_rows_there_is_no_proof(rows: Any, pack: Any) -> None:
    estimator = LinearRegression().fit(rows.frame[NUMBERS], rows.minutes)
    with pytest.raises(PackagingFailed, match="no held-out rows"):
        pack(estimator, rows=rows.frame.head(0))
    with pytest.raises(PackagingFailed, match="have no column 'hour'"):
        pack(estimator, rows=rows.frame.drop("hour"))


def test_rows_the_estimator_itself_refuses_are_named_and_not_held_against_the_executor(rows: Any, pack: Any) -> None:
    strict = make_pipeline(make_column_transformer((OneHotEncoder(), ["carrier"])), LinearRegression())
    packaged = pack(strict.fit(rows.frame[["carrier"]], rows.minutes))
    assert packaged.parity.skipped == ("an unseen category in 'carrier': the estimator itself refuses it (ValueError)",)


def test_an_estimator_that_wants_categories_gets_them(rows: Any, pack: Any) -> None:
    kinds = pl.Enum(list("ABCDEFGH"))
    frame = rows.frame.select("wait", pl.col("carrier").cast(kinds))
    packaged = pack(
        HistGradientBoostingRegressor(max_iter=5, categorical_features="from_dtype").fit(frame, rows.minutes)
    )
    assert packaged.parity.worst < 1e-5


def test_the_manifest_tells_everything_again(rows: Any, pack: Any) -> None:
    packaged = pack(LinearRegression().fit(rows.frame[NUMBERS], rows.minutes), meta={"run": "run-3"})
    told = manifest.read(packaged.folder)
    assert (told.kind, told.signature, told.parity) == (packaged.kind, packaged.signature, packaged.parity)
    assert told.meta["run"] == "run-3"
    assert told.meta["contract"]["columns"][0] == {"name": "distance", "kind": "float32"}


def test_edge_rows_lie_on_split_thresholds_and_a_float_beside(rows: Any) -> None:
    estimator = HistGradientBoostingClassifier(max_iter=3).fit(rows.frame[["wait", "wind"]], rows.late)
    points = edges.split_points(estimator, ["wait", "wind"])["wait"]
    inputs = (Column("wait", Kind.float32), Column("wind", Kind.float32, nullable=True))
    groups = {one.about: one.frame for one in edges.edge_rows(estimator, inputs, rows.frame.select("wait", "wind"))}
    values = groups["split thresholds of 'wait'"]["wait"].to_numpy()
    assert any((values <= point).any() and (values > point).any() for point in points)
    assert groups["a null in 'wind'"]["wind"].null_count() == 16


def test_skops_files_hold_no_foreign_types(tmp_path: Path, rows: Any) -> None:
    estimator = Odd().fit(rows.frame[["wait"]], rows.minutes)
    with pytest.raises(PackagingFailed, match="Odd"):
        native.write(estimator, tmp_path / "model.skops")
    with pytest.raises(PackagingFailed, match=r"os\.system"):
        native.read(tmp_path / "model.skops", ["os.system"])


def test_a_contract_is_kept_with_the_model_without_personal_examples(rows: Any, pack: Any) -> None:
    hidden = Contract((Column("carrier", Kind.string, personal=True, categories=("A",)), Column("wait", Kind.float32)))
    boosting = HistGradientBoostingRegressor(max_iter=2, categorical_features=["carrier"])
    packaged = pack(boosting.fit(rows.frame[["carrier", "wait"]], rows.minutes), contract=hidden)
    assert json.loads((packaged.folder / "input_example.json").read_text())["data"][0][0] == "text"
