from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from trueline.domain.releases import RELEASES, ReleaseEvent, ReleaseState
from trueline.releases.decide import (
    Act,
    Guard,
    GuardEvidence,
    ReleaseEvidence,
    ReleasePolicy,
    Split,
    Stage,
    _relative,
    decide_release,
)
from trueline.stats.arms import Arms, ArmsDesign, observe
from trueline.stats.bad_events import BadEvents, Thresholds, count
from trueline.stats.bounded_mean import bet

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ERRORS = Guard("errors", Thresholds.of(2.0), floor=0.01)
POLICY = ReleasePolicy(shadow=timedelta(hours=1), canary=(0.1, 0.25, 0.5), guards=(ERRORS,))
LAST = Stage(ReleaseState.canary, 2, NOW - timedelta(days=1), vouched=True)
CLEAN = ReleaseEvidence(2, 1, {"errors": GuardEvidence(alone=600)}, units_this_step=100)
HARMFUL = count(ERRORS.thresholds, [True] * 40, [0.1] * 40)


def _stage(state, *, step=-1, ago=timedelta(days=1), vouched=True):
    return Stage(state, step, NOW - ago, vouched)


def _decide(stage, evidence=CLEAN, policy=POLICY):
    return decide_release(stage, evidence, policy, NOW)


def test_the_first_version_has_nobody_to_be_compared_with():
    decision = _decide(_stage(ReleaseState.pending), ReleaseEvidence(1, None, {}))
    assert decision.verdict is Act.promote


def test_a_release_begins_in_shadow_or_without_one_at_the_first_weight():
    assert _decide(_stage(ReleaseState.pending)).weight == 0
    decision = _decide(_stage(ReleaseState.pending), policy=replace(POLICY, shadow=None))
    assert (decision.verdict, decision.step, decision.weight) == (Act.advance, 0, 0.1)


def test_shadow_lasts_its_minimum_then_the_canary_begins():
    early = _decide(_stage(ReleaseState.shadow, ago=timedelta(minutes=20)))
    assert early.verdict is Act.wait
    assert "40 minutes more" in early.reason
    decision = _decide(_stage(ReleaseState.shadow))
    assert (decision.verdict, decision.step, decision.weight) == (Act.advance, 0, 0.1)
    assert "no day of labelled pairs is complete yet" in decision.reason


def test_shadow_pairs_that_show_harm_end_it_before_any_traffic():
    decision = _decide(_stage(ReleaseState.shadow), replace(CLEAN, harm_blocks=bet([0.9] * 14)))
    assert decision.verdict is Act.roll_back
    assert "in 14 days" in decision.reason


@pytest.mark.parametrize("state", [ReleaseState.shadow, ReleaseState.canary, ReleaseState.promoted])
@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ({"guards": {"errors": GuardEvidence(HARMFUL, 400, 40)}}, "errors: 40 bad requests on version 2 beside 0"),
        ({"harm_blocks": bet([1.0] * 14)}, "loses more than 5%"),
        ({"arms": Arms(100, 100, 60.0, 20.0, harm=(30.0,) * 8)}, "labelled loss of version 2 is +200%"),
    ],
)
def test_harm_rolls_back_whenever_it_comes_also_after_promotion(state, evidence, words):
    decision = _decide(_stage(state, step=1), replace(CLEAN, **evidence))
    assert decision.verdict is Act.roll_back
    assert words in decision.reason


def test_alpha_is_shared_by_everything_that_can_roll_back():
    """Three processes at α = 1 % each need 300, not 100."""
    just = replace(CLEAN, arms=Arms(9, 9, 1.0, 1.0, harm=(math.log(299),) * 8))
    over = replace(CLEAN, arms=Arms(9, 9, 1.0, 1.0, harm=(math.log(301),) * 8))
    assert _decide(LAST, just).verdict is not Act.roll_back
    assert _decide(LAST, over).verdict is Act.roll_back


def test_a_broken_split_holds_and_judges_nobody():
    decision = _decide(LAST, replace(CLEAN, splits=(Split(0.1, 1200, 8800),)))
    assert decision.verdict is Act.hold
    assert "1200 units fell on version 2, about 1000 should have" in decision.reason
    labelled = _decide(LAST, replace(CLEAN, labelled_splits=(Split(0.5, 3000, 2000),)))
    assert labelled.verdict is Act.hold
    assert "labelled rows" in labelled.reason


def test_splits_of_different_steps_are_judged_each_by_its_own_share():
    fine = (Split(0.1, 1000, 9000), Split(0.5, 5000, 5000), Split(1.0, 400, 0))
    assert _decide(LAST, replace(CLEAN, splits=fine)).verdict is Act.promote


def test_harm_comes_before_a_broken_split():
    broken = replace(CLEAN, splits=(Split(0.1, 1200, 8800),), guards={"errors": GuardEvidence(HARMFUL, 400, 40)})
    assert _decide(LAST, broken).verdict is Act.roll_back


def test_each_step_asks_for_its_part_of_the_evidence_and_the_last_for_all():
    for step, clean, verdict in [(0, 150, Act.wait), (0, 240, Act.advance), (1, 240, Act.wait), (1, 400, Act.advance)]:
        evidence = replace(CLEAN, guards={"errors": GuardEvidence(alone=clean)})
        decision = _decide(_stage(ReleaseState.canary, step=step), evidence)
        assert decision.verdict is verdict, (step, clean, decision.reason)
    short = _decide(LAST, replace(CLEAN, guards={"errors": GuardEvidence(alone=500)}))
    assert short.verdict is Act.wait
    assert (
        "errors 0 in 500 requests that it answered or scored in shadow; about 34 more requests without one are needed"
        in short.reason
    )
    assert _decide(LAST).verdict is Act.promote


def test_a_step_lasts_its_minimum_and_needs_somebody_to_have_met_it():
    slow = replace(POLICY, canary_for=timedelta(days=3))
    assert "2 days more" in _decide(LAST, policy=slow).reason
    alone = _decide(LAST, replace(CLEAN, units_this_step=0))
    assert alone.verdict is Act.wait
    assert "0 of 1 requests" in alone.reason


def test_where_nothing_vouches_for_merit_the_canary_must_show_the_loss():
    waived = replace(LAST, vouched=False)
    waiting = _decide(waived)
    assert waiting.verdict is Act.wait
    assert "nothing vouches for its merit" in waiting.reason
    by_arms = replace(CLEAN, arms=Arms(900, 900, 90, 100, within=(6.0,) * 8))
    by_days = replace(CLEAN, within_blocks=bet([0.9] * 20))
    for evidence in (by_arms, by_days):
        decision = _decide(waived, evidence)
        assert decision.verdict is Act.promote
        assert "labelled loss shown within 5%" in decision.reason
    halfway = _decide(waived, replace(CLEAN, within_blocks=bet([0.5] * 8)))
    assert "at this rate it takes about" in halfway.reason


def test_a_promoted_release_is_watched_then_finished():
    assert _decide(_stage(ReleaseState.promoted)).verdict is Act.wait
    done = _decide(_stage(ReleaseState.promoted, ago=timedelta(days=8)))
    assert done.verdict is Act.finish
    assert "in the 7 days since" in done.reason


def test_without_canary_steps_shadow_leads_to_all_traffic():
    assert _decide(_stage(ReleaseState.shadow), policy=replace(POLICY, canary=())).verdict is Act.promote


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_guard_declared_still_watches_loss(share):
    evidence = ReleaseEvidence(2, 1, {}, splits=(Split(share, 5, 5),), units_this_step=5)
    assert _decide(LAST, evidence, replace(POLICY, guards=())).verdict is Act.promote
    harmed = replace(evidence, harm_blocks=bet([1.0] * 14))
    assert _decide(LAST, harmed, replace(POLICY, guards=())).verdict is Act.roll_back


EVENTS = {
    (ReleaseState.pending, Act.advance): (ReleaseEvent.start_shadow, ReleaseEvent.start_canary),
    (ReleaseState.pending, Act.promote): (ReleaseEvent.promote,),
    (ReleaseState.shadow, Act.advance): (ReleaseEvent.start_canary,),
    (ReleaseState.shadow, Act.promote): (ReleaseEvent.promote,),
    (ReleaseState.shadow, Act.roll_back): (ReleaseEvent.roll_back,),
    (ReleaseState.canary, Act.advance): (ReleaseEvent.widen,),
    (ReleaseState.canary, Act.promote): (ReleaseEvent.promote,),
    (ReleaseState.canary, Act.roll_back): (ReleaseEvent.roll_back,),
    (ReleaseState.promoted, Act.finish): (ReleaseEvent.finish,),
    (ReleaseState.promoted, Act.roll_back): (ReleaseEvent.roll_back,),
}
logs = st.tuples(*[st.floats(-50, 50)] * 8)


@given(
    st.sampled_from([ReleaseState.shadow, ReleaseState.canary, ReleaseState.promoted]),
    st.integers(0, 2),
    st.booleans(),
    st.builds(Arms, st.integers(0, 900), st.integers(0, 900), st.floats(0, 900), st.floats(0, 900), logs, logs),
    st.lists(st.floats(-1, 1), max_size=20),
    st.integers(0, 900),
    st.integers(0, 30),
    st.timedeltas(timedelta(0), timedelta(days=30)),
)
def test_every_decision_is_a_move_the_machine_knows_and_has_a_sentence(
    state, step, vouched, arms, blocks, clean, bad, ago
):
    evidence = replace(
        CLEAN,
        arms=arms,
        harm_blocks=bet(blocks),
        within_blocks=bet([-z for z in blocks]),
        guards={"errors": GuardEvidence(BadEvents(), clean + bad, bad)},
    )
    decision = _decide(Stage(state, step, NOW - ago, vouched), evidence)
    assert decision.reason
    if decision.verdict in {Act.wait, Act.hold}:
        return
    for event in EVENTS[state, decision.verdict]:
        assert event in RELEASES.table[state]
    if decision.verdict is Act.advance:
        assert decision.step == (0 if state is ReleaseState.shadow else step + 1)
        assert decision.weight == POLICY.canary[decision.step]


# ---- whole releases, looked at after every batch ----

QUICK = replace(POLICY, shadow=None, alpha=0.05, beta=0.05)
BATCH = 500


def _release(rng, policy, *, base, ratio, loss_ratio=1.0, batches=160):
    """Canary requests in batches until it ends; the base error rate and the loss move over the day."""
    design = ArmsDesign.of(policy.loss, 0.2)
    evidence = ReleaseEvidence(2, 1, {"errors": GuardEvidence()}, units_this_step=BATCH)
    step, arms, found = 0, Arms(), GuardEvidence()
    for number in range(batches):
        wave = 1 + 0.8 * math.sin(number / 10)
        share = policy.canary[step]
        canary = rng.random(BATCH) < share
        bad = rng.random(BATCH) < base * wave * np.where(canary, ratio, 1.0)
        mean = np.clip(0.15 * wave * np.where(canary, loss_ratio, 1.0), 0.01, 0.9)
        arms += observe(design, canary.tolist(), rng.beta(2, 2 / mean - 2).tolist(), [share] * BATCH)
        events = count(policy.guards[0].thresholds, canary[bad].tolist(), [share] * int(bad.sum()))
        found = GuardEvidence(
            found.events + events, found.alone + int(canary.sum()), found.alone_bad + int(bad[canary].sum())
        )
        evidence = replace(evidence, arms=arms, guards={"errors": found})
        decision = decide_release(Stage(ReleaseState.canary, step, NOW, vouched=True), evidence, policy, NOW)
        if decision.verdict is Act.advance:
            step = decision.step
        elif decision.verdict is not Act.wait:
            return decision.verdict
    return Act.wait


def _ends(runs, seed, **facts):
    rng = np.random.default_rng(seed)
    ends = [_release(rng, QUICK, **facts) for _ in range(runs)]
    return {act: ends.count(act) for act in Act}


def test_an_identical_canary_is_promoted_and_all_but_never_sent_back():
    ends = _ends(120, 1, base=0.03, ratio=1.0)
    assert binom.sf(ends[Act.roll_back] - 1, 120, QUICK.alpha) > 0.001
    assert ends[Act.promote] >= 110


def test_a_canary_with_twice_the_errors_is_all_but_never_promoted():
    ends = _ends(120, 2, base=0.03, ratio=2.0)
    assert binom.sf(ends[Act.promote] - 1, 120, QUICK.beta) > 0.001
    assert ends[Act.roll_back] >= 100


def test_a_canary_that_fails_five_times_as_often_is_sent_back():
    assert _ends(30, 3, base=0.03, ratio=5.0)[Act.roll_back] == 30


def test_a_canary_that_loses_half_more_is_sent_back_though_it_makes_no_errors():
    slow = replace(QUICK, beta=1e-9)  # so that loss has the time to speak
    rng = np.random.default_rng(4)
    assert all(_release(rng, slow, base=0.0, ratio=1.0, loss_ratio=1.6) is Act.roll_back for _ in range(15))


def test_a_champion_without_measurable_loss_gives_a_sentence_not_a_division_by_zero():
    harm = tuple(8.0 for _ in Arms().harm)
    assert _relative(Arms(1, 2, 0.0, 5e-324, harm, harm)) == 0.0
    assert _relative(Arms(1, 2, 0.2, 0.2, harm, harm)) == pytest.approx(1.0)
