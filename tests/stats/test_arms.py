from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from trueline.stats.arms import FRACTIONS, Arms, ArmsDesign, log_factors, observe

DESIGN = ArmsDesign(inner=0.05, tolerance=0.2, centre=0.2)
rows = st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.floats(0.01, 0.99)), max_size=40)
LENGTH = 4000


@given(rows, rows)
def test_batches_add_whatever_the_shares_were(left, right):
    both, parts = (
        observe(DESIGN, *_columns(left + right)),
        observe(DESIGN, *_columns(right)) + observe(DESIGN, *_columns(left)),
    )
    assert (parts.canary, parts.champion) == (both.canary, both.champion)
    assert parts.harm == pytest.approx(both.harm)
    assert parts.within == pytest.approx(both.within)


@given(rows, st.floats(0, 0.3), st.floats(0.01, 0.99))
def test_no_row_can_bankrupt_a_bet(seen, tolerance, centre):
    state = observe(ArmsDesign.of(tolerance, centre), *_columns(seen))
    assert all(math.isfinite(log) for log in state.harm + state.within)


@given(rows, st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.99))
def test_more_loss_on_the_canary_is_never_less_harm(seen, a, b, share):
    low, high = sorted((a, b))
    before = observe(DESIGN, *_columns(seen))
    lighter, heavier = (before + observe(DESIGN, [True], [loss], [share]) for loss in (low, high))
    assert lighter.log_harm <= heavier.log_harm + 1e-9
    assert lighter.log_within >= heavier.log_within - 1e-9


@given(st.floats(0.02, 0.98), st.floats(0, 0.5), st.floats(0.02, 0.98), st.floats(0, 1))
def test_at_its_null_a_row_is_a_fair_bet(share, tolerance, centre, loss):
    """E[1 + λW] = 1 when the canary's loss is exactly (1 + t) times the champion's."""
    design = ArmsDesign(tolerance, tolerance, centre)
    champion, canary = loss / (1 + tolerance), loss
    harm, within = log_factors(design, np.array([True, False]), np.array([canary, champion]), np.array([share, share]))
    weights = np.array([share, 1 - share])
    assert weights @ np.exp(harm) == pytest.approx(np.ones(len(FRACTIONS)))
    assert weights @ np.exp(within) == pytest.approx(np.ones(len(FRACTIONS)))


def test_requests_that_were_not_randomised_are_no_evidence():
    assert observe(DESIGN, [True, False], [0.9, 0.1], [1.0, 0.0]) == Arms()


@pytest.mark.parametrize(("ratio", "question"), [(1.05, 0), (1.2, 1)])
def test_at_its_null_it_rejects_no_more_often_than_promised(ratio, question, exceeds):
    """Base loss and traffic share both move, together: the pooled means would differ though the models do not."""
    runs = 300
    assert not exceeds(_rejections(runs, ratio, question, alpha=0.05), runs, 0.05)


@pytest.mark.parametrize(("ratio", "question"), [(1.6, 0), (1.0, 1), (0.8, 1)])
def test_what_is_worse_is_caught_and_what_is_equal_or_better_is_passed(ratio, question):
    assert _rejections(60, ratio, question, alpha=0.05) >= 57


def test_the_control_variate_makes_proof_quicker():
    rng = np.random.default_rng(1)
    arm = rng.random(LENGTH) < 0.5
    loss = np.clip(rng.normal(0.3, 0.05, LENGTH) * np.where(arm, 1.2, 1.0), 0, 1)
    near, far = (
        observe(ArmsDesign(0.05, 0.2, centre), arm.tolist(), loss.tolist(), [0.5] * LENGTH).log_harm
        for centre in (0.3, 0.99)
    )
    assert near > math.log(100) > far


def _rejections(runs, ratio, question, *, alpha):
    rng = np.random.default_rng(int(ratio * 100) + question)
    share = np.repeat([0.05, 0.1, 0.25, 0.5], LENGTH // 4)
    base = 0.15 + 0.1 * np.sin(np.linspace(0, 5, LENGTH))
    found = 0
    for _ in range(runs):
        arm = rng.random(LENGTH) < share
        mean = base * np.where(arm, ratio, 1.0)
        loss = np.minimum(rng.beta(2, 2 / mean - 2), 1.0)
        paths = logsumexp(np.cumsum(log_factors(DESIGN, arm, loss, share)[question], axis=0), axis=1)
        found += paths.max() - math.log(len(FRACTIONS)) >= math.log(1 / alpha)
    return found


def _columns(seen):
    return [row[0] for row in seen], [row[1] for row in seen], [row[2] for row in seen]
