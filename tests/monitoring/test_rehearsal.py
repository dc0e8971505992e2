from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.monitoring.rehearsal import (
    PairedLoss,
    Refit,
    RehearsalBlock,
    RehearsalPolicy,
    RehearsalState,
    compared,
    read,
    update,
)

POLICY = RehearsalPolicy()
START = datetime(2026, 1, 1, tzinfo=UTC)
WEEKLY = tuple(Refit(2 + i, START + timedelta(days=7 * i), START + timedelta(days=7 * i, hours=1)) for i in range(6))


def _block(day, losses, champion=1, refits=WEEKLY):
    """A block on which every two versions are paired."""
    versions = sorted(losses)
    pairs = tuple(PairedLoss(a, b, 100, losses[a], losses[b]) for a in versions for b in versions if a < b)
    return RehearsalBlock(str(day), START + timedelta(days=day), champion, refits, pairs)


def _aging(day, per_refit, luck=1.0):
    """Losses in which each refit back costs so much more; version 1 is the oldest."""
    return {version: luck * 10 * (1 + per_refit * (7 - version)) for version in range(1, 8)} | {0: float(day)}


def _after(days, per_refit, seed=0):
    rng = np.random.default_rng(seed)
    state = RehearsalState.begin(POLICY)
    for day in range(50, 50 + days):
        state = update(state, _block(day, _aging(day, per_refit, rng.lognormal(0, 0.3))), POLICY)
    return state


def test_where_older_models_lose_freshness_is_shown_to_pay_under_day_luck():
    reading = read(_after(60, 0.04))
    assert reading.pays
    assert reading.champion_stale
    assert "fresher models are shown to be better" in reading.reason


def test_where_models_do_not_age_nothing_is_shown():
    reading = read(_after(200, 0.0))
    assert not reading.pays
    assert not reading.champion_stale
    assert "not shown to be better (wealth" in reading.reason


@pytest.mark.parametrize(
    ("day", "pair"),
    [(-1, None), (0, None), (1, (1, 2)), (8, (2, 3)), (15, (2, 4)), (22, (2, 5)), (29, (3, 6)), (36, (4, 7))],
)
def test_the_older_refit_is_a_few_refits_back_or_the_oldest_there_is(day, pair):
    assert compared(_block(day, {}), POLICY) == pair


def test_a_refit_finished_during_the_block_is_not_in_it():
    late = replace(WEEKLY[-1], ready_at=START + timedelta(days=60, minutes=1))
    assert compared(_block(60, {}, refits=(*WEEKLY[:-1], late)), POLICY) == (3, 6)


def test_the_first_block_only_sets_the_scale():
    state = update(RehearsalState.begin(POLICY), _block(50, _aging(50, 0.5)), POLICY)
    assert state.freshness.n == 0
    assert state.scale == 10


def test_a_promotion_resets_the_champions_process_and_never_freshness():
    state = _after(60, 0.04)
    promoted = update(state, _block(120, _aging(120, 0.04), champion=5), POLICY)
    assert promoted.champion.n == 1
    assert promoted.freshness.n == state.freshness.n + 1
    assert promoted.freshness.wealth > 20


def test_a_champion_that_is_the_freshest_refit_has_nobody_to_lose_against():
    state = _after(30, 0.04)
    state = update(state, _block(120, _aging(120, 0.04), champion=7), POLICY)
    again = update(state, _block(121, _aging(121, 0.04), champion=7), POLICY)
    assert again.champion == state.champion
    assert again.champion.n == 0


def test_a_bad_champion_is_caught_although_freshness_as_such_does_not_pay():
    state = RehearsalState.begin(POLICY)
    for day in range(50, 90):
        losses = _aging(day, 0.0) | {1: 14.0}
        state = update(state, _block(day, losses), POLICY)
    reading = read(state)
    assert not reading.pays
    assert reading.champion_stale


def test_blocks_without_pairs_or_refits_change_nothing():
    state = _after(20, 0.04)
    assert update(state, replace(_block(100, {}), pairs=()), POLICY) == state
    assert update(state, _block(100, {}, refits=()), POLICY) == state


@given(st.lists(st.tuples(st.integers(1, 7), st.lists(st.floats(0.01, 100), min_size=7, max_size=7)), max_size=30))
def test_the_turn_of_a_pair_does_not_matter_and_state_survives_being_written_down(history):
    once = again = RehearsalState.begin(POLICY)
    for day, (champion, values) in enumerate(history, 50):
        block = _block(day, dict(enumerate(values, 1)), champion)
        turned = tuple(PairedLoss(p.right, p.left, p.rows, p.right_loss, p.left_loss) for p in block.pairs)
        once, again = update(once, block, POLICY), update(again, replace(block, pairs=turned), POLICY)
    assert once == again
    json.dumps(asdict(once), allow_nan=False)
