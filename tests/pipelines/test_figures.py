"""Metrics against scikit-learn's, and the reference bins against what they promise."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs

from trueline.domain.contracts import Column, Kind
from trueline.packaging.signature import Signature
from trueline.pipelines.metrics import baseline, evaluate
from trueline.pipelines.summary import feature, summarise


def test_metrics_are_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    value, said = draw.normal(size=200), draw.normal(size=200)
    assert evaluate("regression", value, said) == pytest.approx(
        {"mae": theirs.mean_absolute_error(value, said), "rmse": theirs.root_mean_squared_error(value, said)}
    )
    label, chance = (draw.random(200) < 0.3).astype(float), draw.integers(0, 20, 200) / 20
    assert evaluate("classification", label, chance) == pytest.approx(
        {
            "log_loss": theirs.log_loss(label, np.clip(chance, 1e-15, 1 - 1e-15)),
            "brier": theirs.brier_score_loss(label, chance),
            "accuracy": theirs.accuracy_score(label, chance >= 0.5),
            "roc_auc": theirs.roc_auc_score(label, chance),
        }
    )


def test_one_class_has_no_auc_and_no_rows_no_metrics() -> None:
    assert "roc_auc" not in evaluate("classification", np.ones(3), np.full(3, 0.5))
    assert evaluate("regression", np.array([]), np.array([])) == {}


def test_the_baseline_is_the_best_constant() -> None:
    found = baseline("regression", np.array([1.0, 2.0, 9.0]))
    assert (found["median"], found["mean"]) == (2.0, 4.0)
    assert found["metrics"]["mae"] == pytest.approx(8 / 3)
    assert baseline("classification", np.array([1.0, 0.0, 0.0, 0.0]))["rate"] == 0.25


@given(st.lists(st.none() | st.integers(-5, 5) | st.floats(allow_infinity=False, width=32), max_size=60))
def test_shares_of_a_number_sum_to_one_and_bins_follow_the_edges(values: list[float | None]) -> None:
    found = feature(
        pl.Series("x", [None if one is None else float(one) for one in values], dtype=pl.Float64),
        Column("x", Kind.float64),
    )
    edges = found["edges"]
    assert edges == sorted(set(edges))
    assert len(found["shares"]) == len(edges) + 1
    if values:
        assert sum(found["shares"]) + found["null"] == pytest.approx(1)


@given(st.lists(st.none() | st.text(max_size=2), max_size=80))
def test_shares_of_categories_sum_to_one(values: list[str | None]) -> None:
    found = feature(pl.Series("x", values, dtype=pl.String), Column("x", Kind.string))
    assert len(found["categories"]) == len(found["shares"]) <= 50
    if values:
        assert sum(found["shares"]) + found["other"] + found["null"] == pytest.approx(1)


def test_a_summary_does_not_grow_with_its_rows() -> None:
    signature = Signature((Column("x", Kind.float32), Column("flag", Kind.boolean)), "y", "regression")
    for count in (10, 10_000):
        frame = pl.DataFrame({"x": np.arange(count, dtype=np.float32), "flag": np.arange(count) % 2 == 0})
        found = summarise(frame, signature, np.arange(count, dtype=np.float64))
        assert len(found["features"]["x"]["edges"]) == 9
        assert found["rows"] == count
        assert found["presence"] == {"x": 1.0, "flag": 1.0}
