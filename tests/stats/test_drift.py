from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.stats.drift import Bins, category_bins, merge, noise_limit, numeric_bins, stability_index

numbers = st.lists(st.one_of(st.none(), st.floats(-10, 10), st.just(float("nan"))), max_size=50)
names = st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), max_size=50)


@given(numbers, numbers, st.lists(st.floats(-10, 10), min_size=1))
def test_numeric_windows_merge_and_lose_no_row(left, right, reference):
    bins = numeric_bins(reference)
    assert merge(bins.count(left), bins.count(right)) == bins.count(left + right)
    assert sum(bins.count(left)) == len(left)


@given(names, names)
def test_category_windows_merge_and_lose_no_row(left, right):
    bins = category_bins(["a", "b", "b", None, "c"])
    assert merge(bins.count(left), bins.count(right)) == bins.count(left + right)
    assert sum(bins.count(left)) == len(left)
    assert len(bins.count(left)) == bins.size == 5


def test_the_commonest_categories_get_a_bin_each():
    assert category_bins(["x", "y", "y", "z", "z"], most=2) == Bins(categories=("y", "z"))


@given(st.lists(st.integers(0, 100), min_size=5, max_size=5), st.lists(st.integers(0, 100), min_size=5, max_size=5))
def test_the_index_is_symmetric_positive_and_zero_for_the_same(a, b):
    assert stability_index(a, b) == pytest.approx(stability_index(b, a), abs=1e-9) or sum(a) != sum(b)
    assert stability_index(a, b) >= 0
    assert stability_index(a, a) == 0


@pytest.mark.parametrize("n", [300, 3000])
def test_noise_passes_its_limit_about_as_often_as_it_says(n, exceeds):
    rng = np.random.default_rng(n)
    runs, alarmed = 1000, 0
    for _ in range(runs):
        a, b = (rng.multinomial(n, np.full(10, 0.1)).tolist() for _ in range(2))
        alarmed += stability_index(a, b) > noise_limit(a, b, alpha=0.05)
    assert not exceeds(alarmed, runs, 0.06)
    assert alarmed > 0.02 * runs


def test_no_rows_say_nothing():
    assert stability_index((0, 0), (5, 5)) == 0
    assert noise_limit((0, 0), (5, 5), alpha=0.01) == 0
