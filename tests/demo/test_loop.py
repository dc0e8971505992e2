from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from trueline.demo import loop
from trueline.demo.flights import START, Flights
from trueline.demo.ledger import Ledger
from trueline.demo.loop import Replay
from trueline.demo.planted import PLANS, Push
from trueline.errors import TruelineError
from trueline.replaying import living
from trueline.replaying.wire import Wire

END = datetime(2013, 3, 1, tzinfo=UTC)


class Onlooker:
    def __init__(self) -> None:
        self.events, self.times = [], []

    def happened(self, event) -> None:
        self.events.append(event)

    def ticked(self, now) -> None:
        self.times.append(now)


@pytest.fixture
def replay(drawn: Flights, serve, control):
    nothing = np.zeros(len(drawn.served))
    made = Replay(control, Wire(serve.url), Ledger(drawn.served, nothing, nothing), Onlooker(), until=END, pushes=[])
    yield made
    made.wire.close()


def test_every_flight_is_asked_once_and_every_landing_is_told_once(replay, serve, drawn):
    replay.run()
    asked = Counter(
        row["flight_id"] for path, _, body in serve.requests if path == "/predict" for row in body["instances"]
    )
    assert asked == Counter(flight.row["flight_id"] for flight in drawn.served)
    told = Counter(
        label["prediction_id"] for path, _, body in serve.requests if path == "/labels" for label in body["labels"]
    )
    landed = {replay.ledger.prediction_ids[flight.number] for flight in drawn.served if flight.landed}
    assert told == Counter(landed)
    assert replay.ledger.labelled == len(landed)


def test_nobody_is_told_of_a_time_before_what_happened_in_it(replay, serve, control):
    """Requests and labels of a tick carry times at or before it, and control is told the tick after them."""
    heard: list[tuple[str, datetime]] = []
    posting, telling = serve.answer, control.replay

    def answer(path, headers, body):
        heard.append((path, datetime.fromisoformat(headers["X-Trueline-Event-Time"])))
        return posting(path, headers, body)

    def told(now):
        heard.append(("now", now))
        return telling(now)

    serve.answer, control.replay = answer, told
    replay.run()
    latest = START
    for what, moment in heard:
        if what == "now":
            latest = moment
        else:
            assert latest <= moment < latest + timedelta(days=1) + replay.tick
    assert control.times == sorted(control.times)
    assert control.times[-1] == END + loop.AFTERMATH


def test_flights_of_the_same_minute_share_a_request_of_a_few_rows(drawn):
    flight = drawn.served[0]
    same = [replace(flight, number=number) for number in range(11)]
    groups = list(loop.together([*same, replace(flight, number=11, scheduled=flight.scheduled + timedelta(minutes=1))]))
    assert [len(group) for group in groups] == [8, 3, 1]


def test_the_same_flights_make_the_same_requests(drawn):
    first, second = ([loop.question(group, loop.FEED) for group in loop.together(drawn.served)] for _ in range(2))
    assert first == second
    assert len({dict(request.headers)["X-Request-Id"] for request in first}) == len(first)


def test_a_request_that_is_refused_is_counted_and_gets_no_label(replay, serve):
    serve.fail_next = 1
    replay.run()
    assert len(replay.ledger.refused) == 1
    assert "is missing" in replay.ledger.refused[0]
    assert np.isnan(replay.ledger.trueline).sum() == 2  # the two flights of the first minute


def test_events_are_read_once_each_and_in_order(replay, control, monkeypatch):
    monkeypatch.setattr(living, "EVENT_PAGE", 2)
    for number in range(5):
        control.record("note", f"n{number}", "before the start")
    replay.run()
    assert [event.id for event in replay.watcher.events] == [event.id for event in control.log]
    assert replay.events == replay.watcher.events


def test_a_first_model_that_is_not_released_ends_the_demo_with_the_last_reason(replay, control):
    control.trains = False
    with pytest.raises(TruelineError, match="nothing to replay against: the first model, on January"):
        replay.run()


def test_the_planted_pushes_take_their_course(replay, control):
    replay.pushes = [Push(replace(plan, at=START + timedelta(days=10 + n))) for n, plan in enumerate(PLANS)]
    replay.run()
    leaky, kilometres = replay.pushes
    assert (leaky.version, leaky.verdict, leaky.release(control)) == (2, "fail", None)
    assert control.waived == [(3, PLANS[1].waiver)]
    assert kilometres.release(control).state == "rolled_back"
    assert kilometres.done


def test_a_push_waits_for_its_gate(control):
    push = Push(PLANS[0])
    now = PLANS[0].at
    assert not push.step(control, now - timedelta(hours=1))
    assert push.step(control, now)
    assert not push.step(control, now), "not trained yet"
    control.replay(now)
    control.verdicts[1] = (None, None)
    assert not push.step(control, now)
    assert not push.done
    control.verdicts[1] = ("fail", "useless live")
    assert not push.step(control, now), "there is nothing to waive"
    assert push.done
    assert push.reason == "useless live"


def test_a_push_whose_training_failed_is_said(control):
    push = Push(PLANS[0])
    push.step(control, PLANS[0].at)
    run = control.runs["run-1"]
    run.state, run.error = "failed", "no such column"
    with pytest.raises(TruelineError, match=r"leaky.py:fit was to train and did not: no such column"):
        push.step(control, PLANS[0].at)


def test_pace_stretches_a_day(replay, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(loop.time, "sleep", slept.append)
    replay.pace = 24.0
    replay.until = START + timedelta(days=1)
    replay.ledger.flights = [flight for flight in replay.ledger.flights if flight.scheduled < replay.until]
    replay.run()
    assert len(slept) == 8 * 4
    assert max(slept) <= 3.0
    assert sum(slept) > 80


def test_control_is_told_only_the_hours_at_which_something_is_due(replay, control):
    control.due_every = timedelta(hours=18)
    replay.run()
    days = (END - START).days + 3
    assert days <= len(control.times) <= 3 * days
    assert all(now.hour == 0 or before + timedelta(hours=18) <= now for before, now in pairwise(control.times[2:]))
