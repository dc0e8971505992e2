from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.domain.verdicts import Verdict
from trueline.gates.decide import GateEvidence, GatePolicy, Metric, Presence, Sanity, decide_gate
from trueline.stats.blocks import BlockPair

POLICY = GatePolicy()
SOUND = GateEvidence(version=2, sanity=Sanity(), presence=(Presence("distance", 1.0, 5000, 5000),), champion=1)


def _days(ratio, days=14, wobble=0.01):
    """Candidate beside the other: `ratio` times its loss, give or take a wobble that alternates."""
    return tuple(BlockPair(f"day {i}", 100, 10 * (ratio + wobble * (-1) ** i), 10.0) for i in range(days))


def test_a_candidate_that_is_not_worse_passes_and_says_by_how_much():
    decision = decide_gate(replace(SOUND, against_champion=_days(0.95)), POLICY)
    assert decision.verdict is Verdict.passed
    assert "-5.0%" in decision.reason
    assert "champion version 1 over 14 days, 1400 rows" in decision.reason
    assert {check.name for check in decision.checks} == {"sanity", "leakage", "merit"}


def test_an_equal_candidate_passes_once_the_days_are_calm_enough():
    assert decide_gate(replace(SOUND, against_champion=_days(1.0, 28, 0.005)), POLICY).verdict is Verdict.passed
    assert decide_gate(replace(SOUND, against_champion=_days(1.0, 8, 0.05)), POLICY).verdict is Verdict.inconclusive


def test_a_worse_candidate_fails():
    decision = decide_gate(replace(SOUND, against_champion=_days(1.1)), POLICY)
    assert decision.verdict is Verdict.failed
    assert "at most +0.5% was asked" in decision.reason


@pytest.mark.parametrize("pairs", [None, (), _days(0.5, 4)])
def test_too_few_days_are_inconclusive_however_good_they_look(pairs):
    decision = decide_gate(replace(SOUND, against_champion=pairs), POLICY)
    assert decision.verdict is Verdict.inconclusive
    assert "of the 5 labelled days needed" in decision.reason


def test_a_chain_of_small_losses_ends_at_the_best_earlier_champion():
    evidence = replace(SOUND, against_champion=_days(1.0, 28, 0.001), best_earlier=7)
    assert (
        decide_gate(replace(evidence, against_best_earlier=_days(1.008, 28, 0.001)), POLICY).verdict is Verdict.passed
    )
    decision = decide_gate(replace(evidence, against_best_earlier=_days(1.02, 28, 0.001)), POLICY)
    assert decision.verdict is Verdict.failed
    assert "best earlier champion, version 7" in decision.reason


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(0.6, Verdict.passed), (1.2, Verdict.failed), (1.0, Verdict.inconclusive)]
)
def test_the_first_version_must_beat_the_constant(ratio, verdict):
    evidence = replace(SOUND, champion=None, baseline=_days(ratio, 10, 0.02))
    decision = decide_gate(evidence, POLICY)
    assert decision.verdict is verdict
    assert "constant baseline" in decision.reason


def test_freshness_vouches_for_merit_but_not_for_sanity():
    vouched = replace(SOUND, vouched_by="freshness", wealth=37.0, against_champion=_days(1.3))
    decision = decide_gate(vouched, POLICY)
    assert decision.verdict is Verdict.passed
    assert "freshness is shown to pay (wealth 37, needed 20)" in decision.reason
    assert decide_gate(replace(vouched, sanity=Sanity(finite=False)), POLICY).verdict is Verdict.failed
    assert decide_gate(replace(vouched, vouched_by="freshness", wealth=19.9), POLICY).verdict is Verdict.failed


@pytest.mark.parametrize("vouching", [None, 100.0])
def test_a_feature_that_is_not_known_in_time_fails_and_is_named(vouching):
    leaky = (*SOUND.presence, Presence("arr_delay", 1.0, 400, 0))
    decision = decide_gate(
        replace(SOUND, presence=leaky, vouched_by="freshness", wealth=vouching, against_champion=_days(0.2)), POLICY
    )
    assert decision.verdict is Verdict.failed
    assert "'arr_delay' is not known when predictions are made" in decision.reason
    assert "0.0% of 400 rows as served" in decision.reason


@pytest.mark.parametrize(
    "presence",
    [
        Presence("arr_delay", 1.0, 0, 0),  # nothing served yet
        Presence("arr_delay", 1.0, 5, 0),  # too few rows to tell
        Presence("gate", 0.3, 1000, 290),  # as rare in training as when served
        Presence("gate", 0.0, 1000, 900),
    ],
)
def test_a_feature_as_present_as_in_training_does_not_fail(presence):
    evidence = replace(SOUND, presence=(presence,), against_champion=_days(0.9))
    assert decide_gate(evidence, POLICY).verdict is Verdict.passed


@pytest.mark.parametrize(
    ("sanity", "verdict", "words"),
    [
        (Sanity(loads=False, problem="missing file"), Verdict.failed, "cannot be loaded for serving: missing file"),
        (Sanity(parity=False), Verdict.failed, "does not predict what the fitted estimator predicts"),
        (Sanity(error="no held-out rows"), Verdict.error, "could not be checked: no held-out rows"),
    ],
)
def test_an_unsound_artefact_never_passes(sanity, verdict, words):
    decision = decide_gate(replace(SOUND, sanity=sanity, against_champion=_days(0.5)), POLICY)
    assert decision.verdict is verdict
    assert words in decision.reason


@pytest.mark.parametrize(
    ("metric", "verdict"),
    [
        (Metric("roc_auc", 0.65, least=0.7), Verdict.failed),
        (Metric("roc_auc", float("nan"), least=0.7), Verdict.failed),
        (Metric("mae", 12.0, most=10.0), Verdict.failed),
        (Metric("roc_auc", 0.75, least=0.7), Verdict.passed),
    ],
)
def test_declared_limits_of_the_metric_hold(metric, verdict):
    decision = decide_gate(replace(SOUND, metric=metric, against_champion=_days(0.9)), POLICY)
    assert decision.verdict is verdict


@given(
    st.lists(st.floats(0.5, 2), max_size=20),
    st.booleans(),
    st.booleans(),
    st.one_of(st.none(), st.floats(0.01, 1000)),
)
def test_the_gravest_check_decides_whatever_the_evidence(ratios, finite, first, freshness):
    pairs = tuple(BlockPair(str(i), 50, ratio, 1.0) for i, ratio in enumerate(ratios))
    evidence = GateEvidence(
        version=2,
        sanity=Sanity(finite=finite),
        champion=None if first else 1,
        baseline=pairs,
        against_champion=pairs,
        vouched_by="freshness",
        wealth=freshness,
    )
    decision = decide_gate(evidence, POLICY)
    verdicts = [check.verdict for check in decision.checks]
    order = (Verdict.error, Verdict.failed, Verdict.inconclusive, Verdict.passed)
    assert decision.verdict is min(verdicts, key=order.index)
    assert decision.reason
