from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from trueline.monitoring.earlier import Champion, EarlierPolicy, EarlierState, chosen, read, update
from trueline.monitoring.rehearsal import PairedLoss, Refit, RehearsalBlock

POLICY = EarlierPolicy()
START = datetime(2026, 1, 1, tzinfo=UTC)
CANDIDATES = (1, 2, 3, 4, 5, 6)
SERVING, REFIT = 20, 21


def _block(day, losses, champion=SERVING, made=None):
    versions = sorted(losses)
    pairs = tuple(PairedLoss(a, b, 100, losses[a], losses[b]) for a in versions for b in versions if a < b)
    began = START + timedelta(days=day)
    refit = Refit(REFIT, began - timedelta(days=3), made or began - timedelta(days=2))
    return RehearsalBlock(str(day), began, champion, (refit,), pairs)


def _world(rng, better=0.0, refit=0.0):
    """Day luck shared by all models; version 1 loses so much less than the champion, the refit too."""
    luck = 10 * rng.lognormal(0, 0.3)
    losses = {version: luck * (1 + rng.normal(0, 0.05)) for version in (*CANDIDATES, SERVING, REFIT)}
    losses[1] *= 1 - better
    losses[REFIT] *= 1 - refit
    return losses


def _lived(days, seed=0, champion=SERVING, **world):
    rng = np.random.default_rng(seed)
    state = EarlierState()
    for day in range(days):
        state = update(state, _block(day, _world(rng, **world), champion), CANDIDATES, 10.0, POLICY)
    return state


def test_a_season_that_returns_brings_its_champion_back_with_its_numbers():
    reading = read(_lived(25, better=0.3), SERVING, POLICY)
    assert (reading.version, reading.serves) == (1, False)
    assert f"less than champion version {SERVING} over the last 14 blocks" in reading.reason
    assert "120 needed, one of 6 that may compete" in reading.reason


def test_nothing_is_shown_while_all_are_alike():
    assert read(_lived(200), SERVING, POLICY).version is None


def test_an_earlier_champion_that_a_refit_matches_is_not_worth_going_back_to():
    assert read(_lived(60, better=0.3, refit=0.3), SERVING, POLICY).version is None


def test_a_reinstated_champion_holds_its_ground_against_refits_until_they_catch_up():
    state = _lived(25, better=0.3)
    rng = np.random.default_rng(1)
    for day in range(25, 35):
        state = update(state, _block(day, _world(rng, better=0.3), champion=1), CANDIDATES, 10.0, POLICY)
    assert read(state, 1, POLICY).serves
    for day in range(35, 70):
        state = update(state, _block(day, _world(rng, better=0.0), champion=1), CANDIDATES, 10.0, POLICY)
    assert read(state, 1, POLICY).version is None


def test_a_refit_finished_during_the_block_is_no_rival_in_it():
    losses = dict.fromkeys((*CANDIDATES, SERVING), 10.0) | {1: 5.0, REFIT: 1.0}
    late = _block(3, losses, made=START + timedelta(days=3, minutes=1))
    state = update(EarlierState(), late, CANDIDATES, 10.0, POLICY)
    assert state.contenders["1"].process.wealth > 1


def test_without_a_scale_or_pairs_nothing_is_bet():
    block = _block(0, dict.fromkeys((1, SERVING), 10.0))
    assert update(EarlierState(), block, (1,), 0.0, POLICY).contenders["1"].process.n == 0
    assert update(EarlierState(), block, (2,), 10.0, POLICY).contenders["2"].process.n == 0
    assert read(EarlierState(), None, POLICY).reason == "no earlier champion competes yet"


@pytest.mark.parametrize("spread", [0.02, 0.15])
def test_with_six_contenders_a_year_without_difference_re_promotes_in_one_of_five_at_most(spread):
    """An e-detector for each: 365 blocks over an average run of 6 · 20 is no lifetime guarantee; in pairs it holds."""
    shown = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        state = EarlierState()
        for day in range(365):
            luck = 10 * rng.lognormal(0, 0.3)
            losses = {version: luck * (1 + rng.normal(0, spread)) for version in (*CANDIDATES, SERVING, REFIT)}
            state = update(state, _block(day, losses), CANDIDATES, 10.0, POLICY)
            if read(state, SERVING, POLICY).version is not None:
                shown += 1
                break
    assert shown <= 4


def test_contenders_are_few_and_spread_over_the_year():
    weekly = [Champion(number, START + timedelta(days=7 * number)) for number in range(1, 41)]
    kept = chosen(weekly)
    assert len(kept) == 6
    assert (kept[0], kept[-1]) == (1, 40)
    assert max(b - a for a, b in pairwise(kept)) <= 20


def test_one_more_champion_replaces_two_contenders_at_most():
    champions = [Champion(number, START + timedelta(days=7 * number)) for number in range(1, 60)]
    for count in range(6, 59):
        before, after = set(chosen(champions[:count])), set(chosen(champions[: count + 1]))
        assert len(before - after) <= 2


def test_the_state_survives_being_written_down():
    state = _lived(5, better=0.2)
    assert msgspec.convert(json.loads(json.dumps(asdict(state))), EarlierState) == state
