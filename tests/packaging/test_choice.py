"""Which of several right executors is taken, and how few are asked."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from trueline.packaging import choice, speed
from trueline.packaging.parity import Proof
from trueline.packaging.speed import Seconds

NUMBERS = ["distance", "wait", "hour"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the candidates that were built."""
    names: list[str] = []
    build = choice.Candidate.build

    def noted(candidate: choice.Candidate, draft: Any) -> Any:
        names.append(candidate.name)
        return build(candidate, draft)

    monkeypatch.setattr(choice.Candidate, "build", noted)
    return names


def takes(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """As if a row took so long, by the executor's kind; the native model's second is one."""

    def measure(predict: Any, _: Proof) -> Seconds:
        kind = getattr(getattr(predict, "__self__", None), "kind", "")
        return Seconds(seconds.get(kind, 1.0), seconds.get(kind, 1.0) / 10)

    monkeypatch.setattr(speed, "measure", measure)


def test_a_fast_executor_ends_the_search(rows: Any, pack: Any, asked: list[str]) -> None:
    pack(LinearRegression().fit(rows.frame[NUMBERS], rows.minutes))
    assert asked == ["ONNX, float32, one matrix"]


def test_the_faster_of_two_that_hold_is_taken(
    rows: Any, pack: Any, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, onnx=9e-4, treelite=2e-4, skops=8e-4)
    packaged = pack(HistGradientBoostingRegressor(max_iter=3).fit(rows.frame[NUMBERS], rows.minutes))
    assert packaged.kind == "treelite"
    assert asked == ["ONNX, float32, one matrix", "Treelite, GTIL"]  # skops could not be clearly faster than that
    assert packaged.parity.tried == ("ONNX, float32, one matrix: right, but slower",)


def test_a_little_faster_is_not_enough(rows: Any, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    takes(monkeypatch, onnx=9e-4, treelite=7e-4, skops=1.0)
    assert pack(HistGradientBoostingRegressor(max_iter=3).fit(rows.frame[NUMBERS], rows.minutes)).kind == "onnx"


def test_what_would_keep_others_waiting_gives_way_even_to_what_is_slower(
    rows: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, onnx=2e-3, skops=5e-3)
    packaged = pack(LinearRegression().fit(rows.frame[NUMBERS], rows.minutes))
    assert packaged.kind == "skops"
    assert packaged.parity.tried == ("ONNX, float32, one matrix: right, but a row takes longer than 1 ms",)


def test_the_speed_is_told_and_kept_out_of_the_folder(rows: Any, pack: Any) -> None:
    packaged = pack(LinearRegression().fit(rows.frame[NUMBERS], rows.minutes))
    told = packaged.parity.speed
    assert 0 < told.batch_row_us < told.row_us < told.native_row_us
    assert "speed" not in json.loads((packaged.folder / "trueline.json").read_text())["parity"]


def test_a_batch_is_measured_with_32_rows_even_of_few(rows: Any) -> None:
    asked: list[int] = []

    def predict(columns: Any) -> Any:
        asked.append(len(columns["wait"]))
        return np.zeros(len(columns["wait"]))

    frame = rows.frame[["wait"]].head(5)
    speed.measure(
        predict, Proof("regression", 1.0, (("held-out rows", {"wait": frame["wait"].to_numpy()}, np.zeros(5)),), ())
    )
    assert set(asked) == {1, 32}
