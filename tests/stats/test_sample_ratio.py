from __future__ import annotations

import math

import numpy as np
import pytest

from trueline.stats.sample_ratio import log_bayes_factor, log_evidence


def test_published_figures():
    assert math.exp(-log_bayes_factor((1000, 810), (0.5, 0.5), k=10_000)) == pytest.approx(0.2356573194502)
    assert log_evidence(np.array([2.0, 2.0, 1.0]), np.ones(3)) == pytest.approx(-6.4457198193855785)
    flat = 5 * math.log(3)
    assert log_bayes_factor((2, 2, 1), (1 / 3,) * 3, k=3) == pytest.approx(-6.4457198193855785 + flat)


def test_a_slight_skew_of_many_visitors_alarms_well_before_the_end():
    visitors = 1_637_070
    alarmed = next(
        n for n in range(1000, visitors, 1000) if log_bayes_factor((0.502 * n, 0.498 * n), (0.5, 0.5)) > math.log(1000)
    )
    assert alarmed < 0.9 * visitors


def test_an_even_split_alarms_no_more_often_than_promised(exceeds):
    rng = np.random.default_rng(1)
    runs, alarmed = 300, 0
    for _ in range(runs):
        hits = np.cumsum(rng.random(5000) < 0.1)
        alarmed += any(
            log_bayes_factor((int(hits[n - 1]), n - int(hits[n - 1])), (0.1, 0.9)) >= math.log(20)
            for n in range(50, 5001, 50)
        )
    assert not exceeds(alarmed, runs, 0.05)


def test_a_tenth_too_much_is_found_in_about_fifteen_thousand_requests():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(40):
        hits = np.cumsum(rng.random(60_000) < 0.11)
        found.append(
            next(
                n
                for n in range(200, 60_001, 200)
                if log_bayes_factor((int(hits[n - 1]), n - int(hits[n - 1])), (0.1, 0.9)) >= math.log(1000)
            )
        )
    assert 13_000 < np.mean(found) < 19_000
