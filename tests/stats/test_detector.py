from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.stats.detector import Detector, Kind

BUDGET = 40


def _run_length(kind, values, longest):
    state = Detector(kind)
    for number in range(1, longest + 1):
        state = state.update(float(values()))
        if state.alarms(BUDGET):
            return number
    return longest


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("spread", [1.0, 0.4])
def test_false_alarms_are_no_more_frequent_than_the_budget(kind, spread):
    rng = np.random.default_rng(6)
    lengths = [_run_length(kind, lambda: rng.choice((-spread, spread)), 400) for _ in range(50)]
    slack = 2.6 * float(np.std(lengths)) / np.sqrt(len(lengths))
    assert np.mean(lengths) + slack >= BUDGET


@pytest.mark.parametrize("kind", list(Kind))
def test_a_change_after_a_long_calm_is_noticed_within_days(kind):
    rng = np.random.default_rng(9)
    state = Detector(kind)
    for _ in range(400):
        state = state.update(float(rng.normal(-0.3, 0.1)))
    calm = state.n
    while not state.alarms(365):
        state = state.update(float(rng.normal(0.6, 0.2)))
    assert state.n - calm <= 20


@given(st.lists(st.floats(-5, 5), max_size=30))
def test_the_sum_of_starts_is_never_below_the_best_start(values):
    total, best = Detector(Kind.sum_of_starts), Detector(Kind.best_start)
    for value in values:
        total, best = total.update(value), best.update(value)
    if values:
        assert total.log_wealth >= best.log_wealth - 1e-9
