from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trueline.demo import compare
from trueline.demo.flights import Flights
from trueline.demo.work import project_folder
from trueline.errors import InvalidProject


class Mean:
    """A model that answers the mean of what it saw, and remembers when that was."""

    feature_names_in_ = ("distance",)

    def __init__(self, frame: pl.DataFrame) -> None:
        self.seen = frame
        self.value = frame["air_time"].mean()

    def predict(self, frame: pl.DataFrame) -> list[float]:
        return [self.value] * frame.height


def test_the_frozen_policy_is_fitted_once_on_january(drawn: Flights):
    models: list[Mean] = []
    answers = compare.frozen(drawn, lambda frame: models.append(Mean(frame)) or models[-1])
    assert len(models) == 1
    assert models[0].seen.equals(drawn.january)
    assert set(answers) == {models[0].value}


def test_the_monthly_policy_knows_only_flights_that_had_landed(drawn: Flights):
    models: list[Mean] = []
    drawn = Flights(drawn.frame.filter(pl.col("scheduled").dt.month() <= 2))
    answers = compare.monthly(drawn, lambda frame: models.append(Mean(frame)) or models[-1])
    assert np.isfinite(answers).all()
    first = models[0].seen
    assert first["scheduled"].dt.month().unique().to_list() == [1]
    assert first["landed"].null_count() == 0


def test_the_demos_own_fit_learns_from_the_archive(drawn: Flights):
    fit = compare.fit_function(project_folder())
    answers = compare.frozen(drawn, fit)
    truth = np.array([np.nan if one.air_time is None else one.air_time for one in drawn.served])
    assert np.nanmean(np.abs(answers - truth)) < 10


def test_a_folder_without_the_project_is_said(tmp_path: Path):
    with pytest.raises(InvalidProject, match="run the demo from a clone"):
        compare.fit_function(tmp_path)
