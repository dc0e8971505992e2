from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from trueline.stats.bad_events import (
    RATIOS,
    BadEvents,
    Thresholds,
    bad_share,
    count,
    log_e_better,
    log_e_worse,
    log_factors,
    prior_strength,
)

EQUAL_OR_TWICE = Thresholds(inner=1.0, tolerance=2.0)
events = st.lists(st.tuples(st.booleans(), st.floats(0.01, 0.99)), max_size=60)


@pytest.mark.parametrize(
    ("events", "centre", "k", "worse", "better"),
    [
        ((10, 50), 0.1, 10, 0.725598, -2.168417),
        ((30, 70), 0.2, 20, 2.119514, -2.190295),
        ((60, 40), 0.5, 9, 1.255926, -2.332693),
        ((5, 95), 0.1, 10, -1.966298, 0.955383),
    ],
)
def test_conjugate_form_gives_the_published_figures(events, centre, k, worse, better):
    assert log_e_worse(*events, centre=centre, k=k) == pytest.approx(worse, abs=1e-6)
    assert log_e_better(*events, centre=centre, k=k) == pytest.approx(better, abs=1e-6)


def test_overwhelming_evidence_one_way_is_a_finite_number_the_other_way():
    assert log_e_worse(10, 100_000, centre=0.5, k=10) == -700
    assert log_e_better(100_000, 10, centre=0.5, k=10) == -700
    assert math.isfinite(log_e_worse(100_000, 10, centre=0.5, k=10))


def test_prior_is_as_wide_as_the_gap_to_be_detected():
    k = prior_strength(0.1, 2.0)
    spread = math.sqrt(0.1 * 0.9 / k)
    assert spread == pytest.approx(bad_share(0.1, 2.0) - 0.1)


@given(events, events)
def test_batches_add_in_any_order(left, right):
    both = count(EQUAL_OR_TWICE, *_columns(left + right))
    parts = count(EQUAL_OR_TWICE, *_columns(right)) + count(EQUAL_OR_TWICE, *_columns(left))
    assert (parts.canary, parts.champion) == (both.canary, both.champion)
    assert parts.worse == pytest.approx(both.worse)
    assert parts.better == pytest.approx(both.better)


@given(events)
def test_one_event_after_another_is_the_same_as_the_batch(seen):
    state = BadEvents()
    for canary, share in seen:
        state = state.update(EQUAL_OR_TWICE, canary=canary, share=share)
    assert state.worse == pytest.approx(count(EQUAL_OR_TWICE, *_columns(seen)).worse)


@given(events, st.floats(0.01, 0.99))
def test_a_bad_event_on_the_canary_never_speaks_for_it(seen, share):
    before = count(EQUAL_OR_TWICE, *_columns(seen))
    hit = before.update(EQUAL_OR_TWICE, canary=True, share=share)
    missed = before.update(EQUAL_OR_TWICE, canary=False, share=share)
    assert hit.log_worse >= before.log_worse >= missed.log_worse
    assert hit.log_better <= before.log_better <= missed.log_better


def test_requests_that_were_not_randomised_are_no_evidence():
    assert count(EQUAL_OR_TWICE, [True, False], [1.0, 0.0]) == BadEvents()


@pytest.mark.parametrize("share", [0.5, 0.1])
@pytest.mark.parametrize(("ratio", "question"), [(1.0, "worse"), (2.0, "better")])
def test_at_its_null_it_rejects_no_more_often_than_promised(share, ratio, question, exceeds):
    runs = 2000
    rejected = _rejections(runs, 1000, share, ratio, question, alpha=0.05)
    assert not exceeds(rejected, runs, 0.05)


@pytest.mark.parametrize(("ratio", "question"), [(3.0, "worse"), (1.0, "better")])
def test_what_is_worse_is_caught_and_what_is_equal_is_passed(ratio, question):
    assert _rejections(300, 1000, 0.1, ratio, question, alpha=0.05) >= 297


def test_a_candidate_exactly_at_the_tolerance_comes_to_an_end():
    thresholds = Thresholds.of(2.0)
    rng = np.random.default_rng(5)
    arm = rng.random((50, 4000)) < bad_share(0.25, 2.0)
    ended = [_crossed(log_factors(thresholds, row, np.full(4000, 0.25))[0], 0.01) for row in arm]
    assert all(ended)


def test_ramps_with_a_moving_base_rate_fool_the_pooled_test_but_not_this_one(exceeds):
    """Simpson: the canary has more traffic in the hours in which everything fails more often."""
    rng = np.random.default_rng(7)
    runs, per_stage = 400, 20_000
    shares = np.array([0.01, 0.05, 0.25, 0.5])
    base = np.array([0.01, 0.01, 0.03, 0.03])
    pooled = ours = 0
    for _ in range(runs):
        units = rng.binomial(per_stage, shares)
        bad_canary, bad_champion = rng.binomial(units, base), rng.binomial(per_stage - units, base)
        pooled += _pooled_z(bad_canary.sum(), units.sum(), bad_champion.sum(), (per_stage - units).sum()) > 1.645
        arm = np.concatenate(
            [rng.permutation(np.repeat([True, False], pair)) for pair in zip(bad_canary, bad_champion, strict=True)]
        )
        rho = np.repeat(shares, bad_canary + bad_champion)
        ours += _crossed(log_factors(EQUAL_OR_TWICE, arm, rho)[0], 0.05)
    assert pooled > 0.95 * runs
    assert not exceeds(ours, runs, 0.05)


@pytest.mark.parametrize("unit", ["first request", "request"])
def test_returning_users_count_once_or_the_promise_is_broken(unit, exceeds):
    """Sticky routing: a few users fail nearly always, and all that a user does falls on one arm."""
    rng = np.random.default_rng(11)
    runs, users, visits = 400, 1500, 15
    rejected = 0
    for _ in range(runs):
        failing = rng.beta(0.02, 0.4, users)
        arm = rng.random(users) < 0.5
        bad = rng.random((users, visits)) < failing[:, None]
        seen = bad[:, 0] if unit == "first request" else bad.sum(axis=1)
        order = rng.permutation(users)
        hits = np.repeat(arm[order], seen[order].astype(int))
        rejected += _crossed(log_factors(EQUAL_OR_TWICE, hits, np.full(len(hits), 0.5))[0], 0.05)
    assert exceeds(rejected, runs, 0.05) is (unit == "request")


def _columns(seen):
    return [canary for canary, _ in seen], [share for _, share in seen]


def _crossed(factors, alpha):
    paths = logsumexp(np.cumsum(factors, axis=0), axis=1) - math.log(len(RATIOS))
    return bool(len(paths) and paths.max() >= math.log(1 / alpha))


def _rejections(runs, length, share, ratio, question, *, alpha):
    rng = np.random.default_rng(int(1000 * share) + int(10 * ratio))
    rho = np.full(length, share)
    found = 0
    for _ in range(runs):
        worse, better = log_factors(EQUAL_OR_TWICE, rng.random(length) < bad_share(share, ratio), rho)
        found += _crossed(worse if question == "worse" else better, alpha)
    return found


def _pooled_z(bad_a, n_a, bad_b, n_b):
    pooled = (bad_a + bad_b) / (n_a + n_b)
    return (bad_a / n_a - bad_b / n_b) / math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
