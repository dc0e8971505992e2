"""Steps in the database: planned, held by who holds the run, fenced, found again by their keys."""

from datetime import timedelta

import pytest

from trueline.control import runs, steps
from trueline.control.steps import Planned
from trueline.domain.runs import RUNS, Purpose, RunEvent, RunState
from trueline.domain.steps import StepState
from trueline.errors import Conflict, NotFound
from trueline.store import moves, tables

PARTS = {"code": {}, "entry": "m.py:a", "params": {}, "inputs": {}, "environment": "e", "seed": 0}


def planned(*names):
    return [Planned(name, place, f"m.py:{name}", names[:place], 0, None) for place, name in enumerate(names)]


@pytest.fixture
def run(store):
    with store.begin() as tx:
        return runs.start(tx, "p", purpose=Purpose.manual, entry="m.py:p", params={}, window_from=tx.now, cut_at=tx.now,
                          release=False, actor="ada", reason="asked")  # fmt: skip


@pytest.fixture
def take(store, clock, run):
    """Take the run up or over; its fence."""

    def take():
        clock.advance(timedelta(minutes=5))
        with store.begin() as tx:
            claimed, fence = moves.claim(tx, tables.runs, RUNS, RunEvent.claim, project="p", waiting=RunState.queued,
                                         busy=RunState.running, owner="w", lease=timedelta(seconds=30))  # fmt: skip
        assert claimed == run.id
        return fence

    return take


def of(store, run):
    with store.read() as tx:
        return {step.name: step for step in steps.of_run(tx, run.id)}


def begin(store, step, key="k"):
    with store.begin() as tx:
        return steps.claim(tx, step, key=key, key_parts=PARTS, owner="w", reason="first")


def test_a_plan_follows_the_pipeline(store, run, take):
    take()
    with store.begin() as tx:
        steps.plan(tx, run, planned("a", "b"), actor="w")
    assert [(step.id, step.needs) for step in of(store, run).values()] == [(f"{run.id}:a", []), (f"{run.id}:b", ["a"])]
    with store.begin() as tx:
        steps.plan(tx, run, planned("a", "c"), actor="w")
    assert {name: step.state for name, step in of(store, run).items()} == {
        "a": StepState.waiting,
        "b": StepState.dropped,
        "c": StepState.waiting,
    }


def test_an_attempt_that_was_overtaken_changes_nothing(store, run, take):
    take()
    with store.begin() as tx:
        steps.plan(tx, run, planned("a"), actor="w")
    step = of(store, run)["a"]
    slow, fast = begin(store, step), begin(store, step)
    with pytest.raises(Conflict, match="taken over by somebody else"), store.begin() as tx:
        steps.succeed(tx, step, slow, {"kind": "json"}, actor="w", reason="late")
    with store.begin() as tx:
        steps.succeed(tx, step, fast, {"kind": "json"}, actor="w", reason="done")
        assert [one.id for one in steps.made(tx, "p", ["k", "other"])["k"]] == [step.id]
    with pytest.raises(Conflict, match="it cannot succeed"), store.begin() as tx:
        steps.succeed(tx, step, fast, {"kind": "json"}, actor="w", reason="twice")


def test_who_lost_the_run_has_lost_its_steps(store, run, take):
    late, now = take(), take()
    with store.begin() as tx:
        steps.held(tx, run, now)
    with pytest.raises(Conflict, match="was taken over by somebody else"), store.begin() as tx:
        steps.held(tx, run, late)


def test_a_failed_run_goes_on_with_its_failed_step(store, run, take):
    fence = take()
    with store.begin() as tx:
        steps.plan(tx, run, planned("a"), actor="w")
    step = of(store, run)["a"]
    attempt = begin(store, step)
    with store.begin() as tx:
        steps.fail(tx, step, attempt, "it raised", actor="w")
        runs.fail(tx, run, fence, "it raised", actor="w")
    with store.begin() as tx:
        assert runs.resume(tx, run, actor="ada", reason="mended").state is RunState.queued
    take()
    with store.begin() as tx:
        steps.plan(tx, run, planned("a"), actor="w")
    assert of(store, run)["a"].state is StepState.waiting
    with store.read() as tx, pytest.raises(NotFound, match="there is no step run-9:a"):
        steps.get(tx, "run-9:a")
