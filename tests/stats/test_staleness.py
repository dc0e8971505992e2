from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.stats.staleness import AgedLoss, staleness


def _aging(per_week, days=60, seed=0):
    """Losses of models of five ages; each day has its own luck, shared by all of them."""
    rng = np.random.default_rng(seed)
    for day in range(days):
        luck = rng.normal(10, 3) ** 2 / 10
        for age in (3, 10, 17, 24, 31):
            yield AgedLoss(str(day), age, luck * (1 + per_week * (age - 3) / 7) * rng.normal(1, 0.02), luck)


def test_the_slope_is_found_under_day_luck():
    curve = staleness(list(_aging(0.04)))
    assert curve.per_week == pytest.approx(0.04, abs=0.004)
    assert curve.low < 0.04 < curve.high
    assert [point.blocks for point in curve.points] == [60] * 5
    assert [point.ratio for point in curve.points] == pytest.approx(
        [1 + 0.04 * (a - 3) / 7 for a in (3, 10, 17, 24, 31)], abs=0.02
    )


def test_models_that_do_not_age_have_a_band_around_none():
    curve = staleness(list(_aging(0.0)))
    assert curve.low <= 0 <= curve.high
    assert all(point.low <= point.ratio <= point.high for point in curve.points)


def test_nothing_seen_is_an_empty_curve():
    assert staleness([]).points == ()


@given(
    st.lists(
        st.builds(AgedLoss, st.sampled_from("abcd"), st.floats(0, 100), st.floats(0.1, 9), st.floats(0.1, 9)),
        min_size=1,
        max_size=12,
    )
)
def test_every_observation_has_its_place_on_the_curve(seen):
    curve = staleness(seen)
    assert len(curve.points) == len({int(one.age_days // 7) for one in seen})
    assert all(point.ratio > 0 for point in curve.points)
