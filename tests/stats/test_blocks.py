from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.stats.blocks import BlockPair, block_value, mean_upper_bound, relative_difference

pairs = st.lists(
    st.builds(BlockPair, st.just("day"), st.integers(1, 500), st.floats(0.1, 10), st.floats(0.1, 10)),
    min_size=2,
    max_size=20,
)


@given(st.floats(-100, 100), st.floats(0.1, 10), st.floats(0, 1), st.floats(0.1, 2))
def test_a_block_is_worth_between_minus_one_and_one(difference, reference, margin, bound):
    assert -1 <= block_value(difference, reference=reference, margin=margin, bound=bound) <= 1


@given(pairs)
def test_limits_enclose_the_estimate_and_a_seed_repeats_them(found):
    once, again = relative_difference(found, resamples=400), relative_difference(found, resamples=400)
    assert once == again
    ratios = [pair.loss / pair.other - 1 for pair in found]
    assert min(ratios) - 1e-9 <= once.low <= once.high <= max(ratios) + 1e-9


@given(pairs, st.floats(0.1, 10))
def test_the_unit_of_loss_does_not_matter(found, unit):
    scaled = [BlockPair(p.block, p.rows, p.loss * unit, p.other * unit) for p in found]
    once, again = relative_difference(found, resamples=200), relative_difference(scaled, resamples=200)
    assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_one_block_is_no_evidence():
    found = relative_difference([BlockPair("day", 100, 1.2, 1.0)])
    assert found.low == -1
    assert found.high > 1e6
    assert math.isfinite(found.high)


@pytest.mark.parametrize("blocks", [5, 7, 14, 28])
def test_a_limit_is_crossed_about_as_often_as_it_says_even_with_few_blocks(blocks, exceeds):
    """Day luck is shared by the rows of a day: 4 % of it beside 1 % of row noise."""
    rng = np.random.default_rng(blocks)
    runs, below, above = 400, 0, 0
    for run in range(runs):
        other = rng.normal(10, 2, blocks)
        mine = other * (1 + rng.normal(0, 0.04, blocks)) + rng.normal(0, 0.1, blocks)
        found = relative_difference(
            [BlockPair(str(i), 100, m, o) for i, (m, o) in enumerate(zip(mine, other, strict=True))],
            resamples=500,
            seed=run,
        )
        below += found.high < 0
        above += found.low > 0
    assert not exceeds(below, runs, 0.06)
    assert not exceeds(above, runs, 0.06)


def test_the_mean_of_future_blocks_is_under_its_bound_as_often_as_it_says(exceeds):
    rng = np.random.default_rng(8)
    missed = sum(mean_upper_bound(rng.normal(10, 2, 14).tolist(), confidence=0.95) < 10 for _ in range(2000))
    assert not exceeds(missed, 2000, 0.05)
