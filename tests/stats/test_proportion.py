from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.stats.proportion import clean_requests_needed, confidence_sequence, log_e_below


@pytest.mark.parametrize(
    ("bad", "n", "tuned_for", "low", "high"),
    [
        (700, 1000, 100, 0.651629, 0.745949),
        (15, 50, 50, 0.129556, 0.511896),
        (1, 50, 50, 0.0, 0.13489),
        (5, 500, 1000, 0.001353, 0.030105),
        (500, 50000, 1000, 0.008517, 0.011619),
    ],
)
def test_the_sequence_gives_the_published_figures(bad, n, tuned_for, low, high):
    found = confidence_sequence(bad, n, alpha=0.05, tuned_for=tuned_for)
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-6)


@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.001, 0.2))
def test_the_sequence_holds_the_rate_seen_and_narrows_with_alpha(bad, good, alpha):
    n = bad + good
    found, wider = confidence_sequence(bad, n, alpha=alpha), confidence_sequence(bad, n, alpha=alpha / 10)
    assert 0 <= wider.low <= found.low <= found.high <= wider.high <= 1
    if n:
        assert found.low <= bad / n <= found.high


def test_all_looks_together_miss_no_more_often_than_promised(exceeds):
    rng = np.random.default_rng(3)
    runs, rate = 300, 0.1
    missed = 0
    looks = np.unique(np.geomspace(1, 2000, 40).astype(int))
    for _ in range(runs):
        bad = np.cumsum(rng.random(2000) < rate)
        found = [confidence_sequence(int(bad[n - 1]), int(n), alpha=0.05) for n in looks]
        missed += any(not interval.low <= rate <= interval.high for interval in found)
    assert not exceeds(missed, runs, 0.05)


def test_about_460_clean_requests_show_less_than_one_percent():
    needed = clean_requests_needed(floor=0.01, beta=0.01)
    assert 455 <= needed <= 475
    assert log_e_below(0, needed, floor=0.01) >= math.log(100) > log_e_below(0, needed - 15, floor=0.01)


def test_one_failure_does_not_end_the_proof():
    assert log_e_below(1, 3000, floor=0.01) > math.log(100)


@pytest.mark.parametrize("rate", [0.02, 0.03])
def test_a_rate_at_the_floor_is_rarely_shown_below_it(rate, exceeds):
    rng = np.random.default_rng(4)
    runs, shown = 300, 0
    for _ in range(runs):
        at = np.flatnonzero(rng.random(1500) < rate)  # just before a failure the evidence is at its highest
        shown += any(log_e_below(bad, int(n), floor=0.02) >= math.log(20) for bad, n in enumerate([*at, 1500]))
    assert not exceeds(shown, runs, 0.05)


@given(st.integers(0, 50), st.integers(0, 5000))
def test_failures_never_speak_for_a_low_rate(bad, good):
    assert log_e_below(bad + 1, bad + good + 1, floor=0.01) <= log_e_below(bad, bad + good, floor=0.01) + 1e-9
