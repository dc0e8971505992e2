from __future__ import annotations

import math

import numpy as np
import pytest

from trueline.stats.shift import FEWEST, LATEST, POOL, log_threshold, scan

YEAR = 365
LOOKS = 100
SERIES = 200
WINDOW = POOL + LATEST + 2

WORLDS = {
    "heavy tails": lambda rng, size: rng.standard_cauchy(size=size),
    "mostly zero": lambda rng, size: rng.binomial(20, 0.01, size=size) / 20,
    "days without rows": lambda rng, size: np.where(rng.random(size) < 0.2, np.nan, rng.normal(size=size)),
}


def _highest(values):
    """The largest evidence of each series over many looks, one a day."""
    best = np.full(values.shape[1], -np.inf)
    for day in range(len(values) - LOOKS, len(values)):
        best = np.maximum(best, scan(values[max(0, day + 1 - WINDOW) : day + 1]).log_evidence)
    return best


@pytest.mark.parametrize("world", WORLDS)
def test_without_change_a_threshold_is_passed_as_rarely_as_promised_whatever_the_distribution(world):
    """n/c at most for n looks: with c = 10·n one series in ten, with c = 100·n one in a hundred."""
    highest = _highest(WORLDS[world](np.random.default_rng(11), (LOOKS + WINDOW, SERIES)))
    for budget in (10, 100):
        passed = int((highest >= math.log(budget * LOOKS)).sum())
        allowed = SERIES / budget
        assert passed <= allowed + 3 * math.sqrt(allowed)


def test_a_jump_is_worth_about_the_number_of_ways_to_choose_its_days():
    rng = np.random.default_rng(0)
    calm = rng.normal(size=(70, 1))
    for days in (3, 4, 5):
        moved = calm.copy()
        moved[-days:] += 20
        found = scan(moved)
        assert int(found.days[0]) == days
        most = math.log(math.comb(POOL + days, days))
        assert most - 3 < float(found.log_evidence[0]) < most


def test_four_clear_days_pass_forty_slices_and_a_budget_of_one_in_two_years():
    values = np.random.default_rng(1).exponential(size=(64, 1))
    values[-4:] += 50
    assert float(scan(values, both_ways=False).log_evidence[0]) >= log_threshold(40, 2 * YEAR)


def test_a_single_odd_day_and_a_slow_drift_are_no_jump():
    odd = np.random.default_rng(2).normal(size=(64, 1))
    odd[-1] += 1000
    assert float(scan(odd).log_evidence[0]) < log_threshold(1, YEAR)


def test_only_upward_means_only_upward():
    values = np.random.default_rng(3).normal(size=(64, 1))
    values[-5:] -= 30
    assert float(scan(values, both_ways=False).log_evidence[0]) < 2
    assert float(scan(values).log_evidence[0]) > log_threshold(40, YEAR)


def test_a_constant_series_that_stays_constant_shows_nothing():
    assert float(scan(np.zeros((64, 1))).log_evidence[0]) < 0


def test_too_few_days_show_nothing():
    assert not np.isfinite(scan(np.arange(float(FEWEST))[:, None]).log_evidence[0])
