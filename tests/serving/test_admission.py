"""Who is let in while more arrives than can be answered: the rules alone, in simulated time."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from time import perf_counter_ns

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lane_model import NS, Outcome, simulate
from serving_world import SIGNATURE

from trueline.serving.admission import BURST, Admission, Pace
from trueline.serving.batching import Lane, Share
from trueline.serving.limits import Limits
from trueline.serving.metrics import Metrics
from trueline.serving.runners import Batch, Done, Scored

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


KINDS = {  # seconds of a batch of n rows, of those of a lone one, the requests they answer, and the rows of a batch
    "all of it for each row": (lambda n, lone: 0.0003 + lone * n, lambda lone: 1 / (0.0003 + lone), 1024),
    "a fifth for each row": (lambda n, lone: lone * (1 + 0.2 * n), lambda lone: 3.75 / lone, 1024),
    "a hundredth for each row": (lambda n, lone: lone * (1 + 0.01 * n), lambda lone: 75 / lone, 1024),
    "none of it for a row": (lambda n, lone: lone + 0 * n, lambda lone: 64 / lone, 64),
}


MOST_PER_SECOND = 5000  # beyond it parsing requests costs more than answering them
SIZES = [
    (kind, lone) for lone in (0.001, 0.005, 0.020, 0.100) for kind in KINDS if KINDS[kind][1](lone) <= MOST_PER_SECOND
]


@pytest.mark.parametrize(("kind", "lone"), SIZES)
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.real) for seed in range(2, 6))])
def test_the_beginning_of_an_overload_counts_too(kind, lone, seed):
    """Three seconds of it, from the first moment on, whatever a batch and a row cost."""
    seconds, answerable, most = KINDS[kind]
    capacity = answerable(lone)
    dice = random.Random(seed)
    usual = max(3.0, 300 / capacity)  # else its p99 is a matter of luck
    arrivals = [
        *poisson(capacity / 2, 0, usual, dice),
        *poisson(5 * capacity, usual, usual + 3, dice),
        *poisson(capacity / 2, usual + 3, usual + 11, dice),
    ]
    outcome = simulate(arrivals, lambda rows: seconds(rows, lone) * (1 + 0.2 * dice.random()), batch_rows=most)
    # not the first second, in which it is not known what a batch takes; nor the last moments: who came then waits among
    # those who came with the overload
    assert outcome.lost(1, usual - 1) <= 0.005 * len(outcome.latencies(0, usual))
    assert outcome.p99(usual, usual + 3) <= 4 * max(outcome.p99(0, usual), 0.003)
    assert len(outcome.latencies(usual, usual + 3)) >= 0.6 * capacity * 3, "the model is not idle meanwhile"
    assert outcome.lost(usual + 8) == 0


def test_while_it_is_not_known_whether_it_is_a_burst_the_newest_come_first_and_after_it_the_oldest():
    seconds, capacity = MODELS["ten milliseconds a row"]
    dice = random.Random(7)
    before = poisson(capacity / 4, 0, 2, dice)
    burst = [2 + 0.0005 * one for one in range(40)]
    outcome = simulate([*before, *burst, 2.1, 2.2], seconds)
    assert outcome.lost() == 0, "nobody is refused because of an order"
    assert ordered(outcome, until=2)
    answered = {arrived: arrived + latency for arrived, latency in outcome.answered}
    assert answered[burst[-1]] < answered[burst[10]], "the newest first"
    assert answered[2.2] > answered[burst[10]], "and then nobody is overtaken"


@pytest.mark.parametrize("load", [0.5, 0.8])
@pytest.mark.parametrize("model", MODELS)
def test_in_usual_times_the_first_to_come_is_the_first_to_be_answered(model, load):
    seconds, capacity = MODELS[model]
    outcome = simulate(poisson(load * capacity, 0, 4, random.Random(8)), seconds)
    assert outcome.lost() == 0
    overtaken = sum(one > other + 1e-9 for one, other in pairwise(moments(outcome)))
    assert overtaken <= 0.02 * len(outcome.answered)


@pytest.mark.parametrize("lone", [0.1, 0.2, 0.3])
def test_of_a_slow_version_none_is_scored_who_would_miss_the_deadline(lone):
    """Else a version that is merely loaded is blamed for it, and a process killed."""
    arrivals = [*poisson(0.3 / lone, 0, 20, random.Random(9)), *poisson(5 / lone, 20, 30, random.Random(10))]
    outcome = simulate(sorted(arrivals), lambda rows: lone * rows)
    late = [latency for latency in outcome.latencies() if latency > 0.9]
    assert len(late) <= 4, "one batch, before it was known that a batch spares nothing"
    assert max(rows for rows, _ in outcome.batches) * lone <= 0.9


def test_small_stalls_of_the_machine_cost_a_loaded_version_no_requests():
    """A tenth of the batches take thirty milliseconds more: then small batches are not cheap, whatever the model says."""
    for seed in range(3):
        dice = random.Random(seed)

        def busy(rows: int, dice: random.Random = dice) -> float:
            return 0.0003 + 0.001 * rows + (dice.expovariate(1 / 0.03) if dice.random() < 0.1 else 0)

        assert simulate(poisson(300, 0, 6, dice), busy).lost() == 0


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


def moments(outcome: Outcome, until: float = math.inf) -> list[float]:
    """When each was answered, in the order in which they came."""
    return [arrived + latency for arrived, latency in sorted(outcome.answered) if arrived < until]


def ordered(outcome: Outcome, until: float) -> bool:
    """First come, first answered."""
    return all(one <= other + 1e-9 for one, other in pairwise(moments(outcome, until)))


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


class Waiting(msgspec.Struct):
    """A request of one row, as a lane sees it."""

    x: float
    queued_ns: int
    rows: int = 1
    event_us: int = 0

    @property
    def columns(self) -> dict[str, list[float]]:
        return {"x": [self.x], "n": [1]}

    def tuples(self, names: tuple[str, ...]) -> None:
        del names


class Slow:
    """A runner that has a batch until it is asked for it."""

    kind = "fake"

    def __init__(self) -> None:
        self.signature = SIGNATURE
        self.batches: list[tuple[list[float], int]] = []
        self.answer: Callable[[], None] = lambda: None

    def run(self, batch: Batch, done: Done) -> None:
        values = np.array(batch.columns["x"])
        self.batches.append((values.tolist(), batch.waited_ns))
        self.answer = lambda: done(Scored("answered", values, None, 1))

    async def close(self) -> None:
        return


def test_a_lane_keeps_to_it():
    """Newest first while the door says so, in the order in which they came within a batch; and no late one is scored."""
    told: list[tuple[list[float], str]] = []

    def settle(version: int, items: Sequence[Waiting], shares: Sequence[Share], started_ns: int) -> None:
        del version, started_ns
        told.append(([one.x for one in items], shares[0].outcome))

    async def life() -> None:
        runner = Slow()
        lane = Lane(1, runner, settle=settle, settle_shadow=settle, metrics=Metrics(), limits=Limits())
        now = perf_counter_ns()
        for x, seconds in enumerate((60, 50, 4, 3, 2, 1)):
            lane.add(Waiting(float(x), now - seconds * NS))
        door = lane.door
        door.rows, door.patience_ns, door.fresh_ns = 2, 45 * NS, NS // 2
        await asyncio.sleep(0)
        assert told == [([0.0, 1.0], "timed_out")]
        runner.answer()
        door.rows, door.patience_ns, door.fresh_ns = 2, 45 * NS, 45 * NS
        await asyncio.sleep(0)
        runner.answer()
        assert [xs for xs, _ in runner.batches] == [[4.0, 5.0], [2.0, 3.0]]
        assert [round(waited / NS) for _, waited in runner.batches] == [2, 4], "of the one who waited for longest"

    asyncio.run(life())
