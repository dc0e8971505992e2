from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.stats.bounded_mean import BETS
from trueline.stats.freshness import CAP, FLOOR, Freshness

ALPHA = 0.05


@pytest.mark.parametrize("spread", [1.0, 0.4])
def test_without_drift_it_takes_long_until_freshness_seems_to_pay(spread):
    rng = np.random.default_rng(1)
    lengths = []
    for _ in range(120):
        state = Freshness(ALPHA)
        while not state.shown and state.n < 1000:
            state = state.update(float(rng.choice((-spread, spread))))
        lengths.append(state.n)
    slack = 2.6 * float(np.std(lengths)) / np.sqrt(len(lengths))
    assert np.mean(lengths) + slack >= 1 / ALPHA


def test_with_a_margin_and_no_drift_it_is_never_shown():
    rng = np.random.default_rng(2)
    state = Freshness(ALPHA)
    for _ in range(3000):
        state = state.update(float(rng.normal(-0.02, 0.05)))
        assert not state.shown


def test_it_changes_its_mind_both_ways_however_long_it_was_sure():
    state = Freshness(ALPHA)
    for _ in range(500):
        state = state.update(-0.2)
    assert not state.shown
    for _ in range(30):
        state = state.update(0.4)
    assert state.shown
    for _ in range(500):
        state = state.update(0.4)
    for _ in range(80):
        state = state.update(-0.4)
    assert not state.shown


@given(st.lists(st.floats(-3, 3), max_size=50))
def test_wealth_stays_between_floor_and_cap_and_survives_being_written_down(values):
    state = Freshness(ALPHA)
    for value in values:
        state = state.update(value)
    assert all(FLOOR <= wealth <= CAP / ALPHA for wealth in state.wealths)
    kept = json.loads(json.dumps(asdict(state)))
    assert Freshness(kept["alpha"], kept["n"], tuple(kept["wealths"])) == state
    assert len(kept["wealths"]) == len(BETS)


@given(st.lists(st.floats(-1, 1), max_size=30), st.floats(-1, 1), st.floats(-1, 1))
def test_a_larger_difference_is_never_worth_less(values, a, b):
    state = Freshness(ALPHA)
    for value in values:
        state = state.update(value)
    assert state.update(min(a, b)).wealth <= state.update(max(a, b)).wealth
