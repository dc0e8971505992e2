from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.monitoring.decide import Advice, Change, MonitorPolicy, MonitorState, advise, observe, reference
from trueline.monitoring.earlier import EarlierReading
from trueline.monitoring.rehearsal import RehearsalReading

POLICY = MonitorPolicy(loss=0.1, blocks_per_false_alarm=60)
CALM = [10.0, 10.5, 9.5, 10.2, 9.8, 10.1, 9.9, 10.0]


def _watch(losses, policy=POLICY, state=None, version=1, seen=CALM):
    """Every change of state with the number of its block."""
    state = state or MonitorState()
    changes = []
    for number, loss in enumerate(losses, 1):
        decision = observe(state, version, loss, reference(seen), policy)
        state = decision.state
        if decision.verdict is not Change.none:
            changes.append((number, decision.verdict))
    return changes, state


def test_a_model_as_good_as_its_reference_is_left_alone():
    rng = np.random.default_rng(0)
    assert _watch(rng.normal(10, 1.5, 400))[0] == []


def test_a_model_that_has_gone_bad_opens_one_incident_and_recovery_closes_it():
    changes, _ = _watch([10.0] * 60 + [16.0] * 60 + [10.0] * 40)
    assert [change for _, change in changes] == [Change.opens, Change.closes]
    opened, closed = (number for number, _ in changes)
    assert opened <= 75
    assert 120 < closed <= 155


def test_the_reason_has_the_numbers():
    state = MonitorState()
    for _ in range(40):
        decision = observe(state, 1, 16.0, reference(CALM), POLICY)
        state = decision.state
        if decision.verdict is Change.opens:
            break
    assert "worse than promised by more than 10%: mean loss 16 in the last block" in decision.reason
    assert "one false alarm in 60 blocks" in decision.reason


@pytest.mark.parametrize("spread", [0.2, 2.0])
def test_at_the_edge_of_its_promise_false_alarms_keep_to_the_budget(spread):
    """The null is composite: the block loss is expected at the bound, not below it. With day luck, little and much."""
    rng = np.random.default_rng(1)
    promised = reference(CALM)
    lengths = []
    for _ in range(80):
        state, blocks = MonitorState(), 0
        while blocks < 600:
            blocks += 1
            decision = observe(state, 1, float(promised.upper * 1.1 + rng.normal(0, spread)), promised, POLICY)
            state = decision.state
            if decision.verdict is Change.opens:
                break
        lengths.append(blocks)
    assert np.mean(lengths) + 2.6 * np.std(lengths) / np.sqrt(len(lengths)) >= POLICY.blocks_per_false_alarm


def test_an_uncertain_reference_does_not_page():
    """The reference is estimated from seven noisy days; in most worlds its bound covers the truth."""
    rng = np.random.default_rng(2)
    paged = 0
    policy = MonitorPolicy(loss=0.1, blocks_per_false_alarm=365)
    for _ in range(100):
        seen = rng.normal(10, 2, 7).tolist()
        paged += bool(_watch(rng.normal(10.5, 2, 60), policy, seen=seen)[0])
    assert paged <= 5


def test_a_row_of_successors_each_worse_than_promised_still_pages():
    state, changes = None, []
    for version in range(1, 11):
        found, state = _watch([16.0] * 3, state=state, version=version)
        changes += [change for _, change in found]
    assert changes == [Change.opens]


def test_a_successor_that_keeps_the_promise_takes_the_evidence_back():
    _, state = _watch([16.0] * 3)
    changes, _ = _watch([10.0] * 200, state=state, version=2)
    assert changes == []


def test_an_open_incident_outlives_a_promotion_until_the_successor_is_shown_to_be_good():
    _, state = _watch([18.0] * 30)
    assert state.closing is not None
    changes, after = _watch([10.0] * 30, state=state, version=2)
    assert [change for _, change in changes] == [Change.closes]
    assert after.closing is None


def test_one_day_is_no_reference_to_page_on():
    assert reference([10.0]).upper == 15.0


@given(st.lists(st.floats(0, 100), max_size=40))
def test_incidents_alternate_and_state_survives_being_written_down(losses):
    changes, state = _watch(losses)
    assert [change for _, change in changes] == [Change.opens, Change.closes] * (len(changes) // 2) + [Change.opens] * (
        len(changes) % 2
    )
    assert (state.closing is not None) == (len(changes) % 2 == 1)
    json.dumps(asdict(state), allow_nan=False)


REHEARSED = RehearsalReading(
    pays=False, champion_stale=False, freshness=1.0, champion=1.0, threshold=20.0, reason="it was tried"
)
BETTER = EarlierReading(3, 130.0, 120.0, serves=False, reason="version 3 loses 7% less")
NONE_BETTER = EarlierReading(None, 2.0, 120.0, serves=False, reason="none")


@pytest.mark.parametrize(
    ("fault", "earlier", "rehearsed", "advice", "said"),
    [
        (None, None, None, Advice.wait, "no refit was rehearsed"),
        (None, NONE_BETTER, REHEARSED, Advice.wait, "it was tried"),
        (None, NONE_BETTER, replace(REHEARSED, pays=True), Advice.retrain, "it was tried"),
        (None, NONE_BETTER, replace(REHEARSED, champion_stale=True), Advice.retrain, "it was tried"),
        (None, BETTER, replace(REHEARSED, pays=True), Advice.re_promote, "version 3 loses 7% less"),
        (None, replace(BETTER, serves=True), REHEARSED, Advice.wait, "not shown to help"),
        ("distance broke", BETTER, replace(REHEARSED, pays=True), Advice.upstream_fault, "distance broke"),
    ],
)
def test_the_advice_mends_the_input_first_then_goes_back_then_retrains(fault, earlier, rehearsed, advice, said):
    found, reason = advise(fault, earlier, rehearsed)
    assert found is advice
    assert said in reason
