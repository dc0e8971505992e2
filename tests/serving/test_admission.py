"""Who is let in while more arrives than can be answered: the rules alone, in simulated time."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lane_model import Outcome, simulate

from trueline.serving.admission import BURST, Admission, Pace

MODELS = {  # seconds of a batch of n rows, and the requests per second that can be answered
    "a millisecond a row": (lambda n: 0.0003 + 0.001 * n, 900),
    "ten milliseconds a row": (lambda n: 0.0003 + 0.010 * n, 95),
    "fifty milliseconds a row": (lambda n: 0.0003 + 0.050 * n, 19),
    "scikit-learn": (lambda n: 0.0006 + 0.00013 * n, 6000),
    "fixed cost and rows": (lambda n: 0.005 + 0.0005 * n, 1600),
}


def poisson(rate: float, begin: float, end: float, dice: random.Random) -> list[float]:
    moments, now = [], begin
    while (now := now + dice.expovariate(rate)) < end:
        moments.append(now)
    return moments


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.real)])
def test_five_times_the_load_leaves_those_let_in_within_four_times_the_usual(model, seed):
    seconds, capacity = MODELS[model]
    dice = random.Random(seed)
    long = 6.0 if capacity > 2000 else 15.0  # of each part

    def busy(rows: int) -> float:
        return seconds(rows) * (1 + 0.2 * dice.random())

    arrivals = [
        *poisson(capacity / 2, 0, long, dice),
        *poisson(5 * capacity, long, 2 * long, dice),
        *poisson(capacity / 2, 2 * long, 2 * long + 8, dice),
    ]
    outcome = simulate(arrivals, busy)
    assert outcome.lost(0, long) <= 0.005 * len(outcome.latencies(0, long)), "nothing is refused in normal times"
    assert outcome.p99(long, 2 * long) <= 4 * max(outcome.p99(0, long), 0.003)
    assert len(outcome.latencies(long, 2 * long)) >= 0.7 * capacity * long, "the model is not idle meanwhile"
    after = 2 * long + 5
    assert outcome.lost(after) == 0
    assert outcome.p99(after) <= 2 * outcome.p99(0, long)


@pytest.mark.parametrize("size", [32, 128, 256])
@pytest.mark.parametrize("model", ["a millisecond a row", "scikit-learn", "fixed cost and rows"])
def test_a_burst_is_answered_whole(model, size):
    seconds, capacity = MODELS[model]
    before = poisson(capacity / 5, 0, 1.0, random.Random(3))
    outcome = simulate([*before, *([1.0] * size)], seconds)
    assert outcome.lost() <= size * 0.01
    assert len(outcome.answered) >= len(before) + size * 0.99


@pytest.mark.parametrize("clients", [32, 200])
def test_patient_clients_in_turn_are_never_refused(clients):
    """Each sends its next request when it has its answer: that can keep a model busy, and never overloads it."""
    outcome = simulate(
        [0.0001 * one for one in range(clients)],
        MODELS["a millisecond a row"][0],
        retry=lambda now, _: now + 0.0001 if now < 3 else None,
    )
    assert outcome.lost() == 0


def test_no_batch_of_a_new_slow_version_misses_its_deadline_because_of_load():
    """A row takes 20 ms; what is waiting is not taken at once before it is known what that would take."""
    outcome = simulate(poisson(500, 0, 5, random.Random(4)), lambda rows: 0.02 * rows)
    assert max(rows for rows, _ in outcome.batches) * 0.02 <= 0.9
    assert len(outcome.answered) >= 0.7 * 50 * 5


def test_a_stall_is_not_taken_for_the_models_pace():
    """One batch in a hundred takes thirty times as long (the machine did something else): nothing is refused for it."""
    dice = random.Random(5)
    outcome = simulate(
        poisson(300, 0, 10, dice), lambda rows: (0.0003 + 0.001 * rows) * (30 if dice.random() < 0.01 else 1)
    )
    assert outcome.lost() <= 0.01 * len(outcome.answered)


def test_requests_of_many_rows_are_counted_by_their_rows():
    outcome = simulate(poisson(20, 0, 10, random.Random(6)), lambda rows: 0.001 + 0.00002 * rows, rows=1000)
    assert outcome.lost() == 0
    crowded = simulate(poisson(500, 0, 10, random.Random(6)), lambda rows: 0.001 + 0.00002 * rows, rows=1000)
    assert crowded.p99(2) <= 4 * outcome.p99()


loads = st.lists(st.tuples(st.floats(0, 2), st.integers(1, 40)), max_size=60)


@settings(deadline=None, max_examples=60)
@given(loads=loads, fixed=st.floats(0, 0.3), row=st.floats(0, 0.1), rows=st.integers(1, 50))
def test_everybody_gets_an_answer_or_a_refusal_and_the_door_never_stays_shut(loads, fixed, row, rows):
    arrivals = sorted(at for at, many in loads for _ in range(many))
    outcome = simulate([*arrivals, 1000.0, 1010.0], lambda many: fixed + row * many, rows=rows)
    assert len(outcome.answered) + outcome.lost() == len(arrivals) + 2
    assert outcome.lost(999) == 0, "whatever happened before"
    assert ordered(outcome)


def ordered(outcome: Outcome) -> bool:
    """First come, first answered."""
    done = [arrived + latency for arrived, latency in sorted(outcome.answered)]
    return all(one <= other + 1e-9 for one, other in pairwise(done))


@settings(deadline=None)
@given(fixed=st.floats(1e-5, 0.5), row=st.floats(0, 0.05), sizes=st.lists(st.integers(1, 500), min_size=1, max_size=80))
def test_a_pace_is_never_negative_and_exact_where_it_was_seen(fixed, row, sizes):
    pace = Pace()
    for rows in sizes:
        pace.observe(rows, fixed + row * rows)
    assert pace.fixed >= 0
    assert pace.per_row >= 0
    if len(set(sizes)) == 1:
        assert pace.seconds(sizes[0]) == pytest.approx(fixed + row * sizes[0], rel=1e-6)


@settings(deadline=None)
@given(steps=st.lists(st.tuples(st.integers(1, 2000), st.floats(0, 3), st.integers(0, 5000)), min_size=1, max_size=60))
def test_whatever_is_measured_a_batch_has_a_row_and_the_empty_lane_has_room(steps):
    door = Admission(batch_seconds=0.9, batch_rows=1024)
    now = 0
    for rows, seconds, waiting in steps:
        door.took(rows, waiting, now)
        now += int(seconds * 1e9)
        door.done(rows, 1 + rows // 7, seconds)
        assert 1 <= door.rows <= 1024
        door.took(1, 0, now)
        assert door.room > 0
        assert 0 < door.patience_ns <= 0.9e9


def test_a_narrow_door_opens_again_when_fewer_come():
    door = Admission(batch_seconds=0.9, batch_rows=1024)
    for rows in (1, 2, 3, 4) * 8:
        door.done(rows, rows, 0.001 * rows)
    now = 0

    def turn(arriving: int) -> None:
        nonlocal now
        for _ in range(arriving):
            if door.room > 0:
                door.room -= 1
            else:
                door.refuse()
        door.took(4, 0, now)
        now += 4_000_000

    for _ in range(100):
        turn(4)
    assert not door.narrow
    for _ in range(100):
        turn(BURST)
    assert door.narrow
    assert door.room < 32
    for _ in range(100):
        turn(2)
    assert not door.narrow
