from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from trueline.stats.bounded_mean import BETS, Bets, bet, confidence_sequence, log_capital

GOLDEN = [0.1 + 0.4 * (0.6180339887498949 * i % 1) for i in range(1, 1001)]
values = st.lists(st.floats(-1, 1), max_size=40)


@pytest.mark.parametrize(
    ("mean", "at_100", "at_1000"),
    [
        (0.25, 190.234059, 27657323098.09),
        (0.29, 0.521136, 7.312220),
        (0.30, 0.348965, 0.098358),
        (0.31, 0.714742, 10.695684),
        (0.35, 14.801633, 1718127198.99),
    ],
)
def test_hedged_capital_gives_the_published_figures(mean, at_100, at_1000):
    capital = [math.exp(log_capital(GOLDEN[:n], [mean], alpha=0.05)[0]) for n in (100, 1000)]
    assert capital == pytest.approx([at_100, at_1000], rel=1e-5)


@pytest.mark.parametrize(("n", "low", "high"), [(100, 0.265, 0.354), (1000, 0.288, 0.312)])
def test_the_sequence_gives_the_published_figures(n, low, high):
    found = confidence_sequence(GOLDEN[:n], alpha=0.05)
    assert (found.low, found.high) == (low, high)


@given(st.lists(st.floats(0, 1), max_size=60))
def test_the_sequence_stays_within_its_range_and_in_order(seen):
    found = confidence_sequence(seen, alpha=0.05)
    assert 0 <= found.low <= found.high <= 1


@given(values, values)
def test_batches_add(left, right):
    assert (bet(left) + bet(right)).logs == pytest.approx(bet(left + right).logs)


@given(values, st.floats(-1, 1), st.floats(-1, 1))
def test_a_larger_value_is_never_worth_less(seen, a, b):
    low, high = sorted((a, b))
    before = bet(seen)
    assert before.update(low).log_wealth <= before.update(high).log_wealth + 1e-12


def test_values_beyond_the_bound_are_clipped():
    assert bet([7.0, -3.0]) == bet([1.0, -1.0])


@pytest.mark.parametrize("spread", [1.0, 0.3])
def test_at_its_null_it_rejects_no_more_often_than_promised(spread, exceeds):
    rng = np.random.default_rng(2)
    runs = 4000
    steps = np.log1p(rng.choice([-spread, spread], (runs, 60))[:, :, None] * np.asarray(BETS))
    paths = logsumexp(np.cumsum(steps, axis=1), axis=2) - math.log(len(BETS))
    assert not exceeds(int((paths.max(axis=1) >= math.log(20)).sum()), runs, 0.05)


def test_one_value_after_another_is_the_same_as_the_batch():
    state = Bets()
    for value in (0.3, -0.2, 0.9):
        state = state.update(value)
    assert state.logs == pytest.approx(bet([0.3, -0.2, 0.9]).logs)
