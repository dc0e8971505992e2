"""Every state machine is total, its terminal states end, and an illegal event changes nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.domain.blocks import BLOCKS
from trueline.domain.gates import GATES
from trueline.domain.incidents import INCIDENTS
from trueline.domain.releases import RELEASES, ReleaseEvent, ReleaseState
from trueline.domain.runs import RUNS, RunEvent, RunState
from trueline.domain.steps import STEPS
from trueline.domain.versions import VERSIONS
from trueline.errors import Conflict

MACHINES = [BLOCKS, GATES, INCIDENTS, RELEASES, RUNS, STEPS, VERSIONS]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.noun)
def test_every_state_has_a_row_and_can_be_reached(machine):
    states = type(machine.initial)
    assert set(machine.table) == set(states)
    reached = {machine.initial}
    for _ in states:
        reached |= {following for state in reached for following in machine.table[state].values()}
    assert reached == set(states)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.noun)
def test_an_event_that_the_row_does_not_name_is_refused(machine):
    events = {event for row in machine.table.values() for event in row}
    for state, row in machine.table.items():
        for event in events - set(row):
            with pytest.raises(Conflict, match=f"{machine.noun} x is {state}: it cannot {event}; possible now"):
                machine.next(state, event, which="x")


def test_the_sentence_names_what_would_be_possible():
    with pytest.raises(Conflict, match=r"^run-7 is queued: it cannot succeed; possible now: cancel or claim"):
        RUNS.next(RunState.queued, RunEvent.succeed, which="run-7")


def test_a_final_state_says_so():
    with pytest.raises(Conflict, match="possible now: nothing: that state is final"):
        RUNS.next(RunState.succeeded, RunEvent.claim)


@given(st.lists(st.sampled_from(list(ReleaseEvent)), max_size=12))
def test_a_release_never_leaves_a_final_state(events):
    state = RELEASES.initial
    ended = False
    for event in events:
        try:
            state = RELEASES.next(state, event)
        except Conflict:
            continue
        assert not ended
        ended = state in RELEASES.terminal
    assert state in ReleaseState
