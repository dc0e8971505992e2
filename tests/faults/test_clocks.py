"""Clocks that are put an hour back or run a day ahead: nothing waits for them, nothing is lost, nothing doubled."""

from __future__ import annotations

import time
from datetime import timedelta

import polars as pl
import pytest
from serving_world import Fake, Running, table

from trueline.clock import ManualClock
from trueline.control import blocks
from trueline.data.labels import SCHEMA, resolve
from trueline.domain.blocks import BLOCKS, BlockEvent, BlockState
from trueline.errors import Conflict
from trueline.journal.records import LabelRecord
from trueline.serving.server import Config
from trueline.settings import StateFolder
from trueline.store import moves, outbox, tables
from trueline.store.engine import open_store

HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
LEASE = timedelta(seconds=30)
JUMPS = pytest.mark.parametrize("jump", [-HOUR, DAY, -DAY], ids=["an hour back", "a day ahead", "a day back"])


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def store(tmp_path, clock):
    opened = open_store(tmp_path / "control.db", clock)
    yield opened
    opened.close()


def claim(store, owner):
    with store.begin() as tx:
        return moves.claim(
            tx,
            tables.blocks,
            BLOCKS,
            BlockEvent.claim,
            project="p",
            waiting=BlockState.due,
            busy=BlockState.evaluating,
            owner=owner,
            lease=LEASE,
        )


@JUMPS
def test_the_work_of_a_dead_holder_is_taken_over_whatever_the_clock_did(store, clock, jump):
    with store.begin() as tx:
        blocks.make_due(tx, "p", "2026-01-01", tx.now)
    assert claim(store, "dead") == ("p/2026-01-01", 1)
    clock.advance(jump)
    clock.advance(LEASE + timedelta(seconds=1))
    assert claim(store, "next") == ("p/2026-01-01", 2)


@JUMPS
def test_a_living_holder_that_the_clock_robbed_of_its_lease_changes_nothing(store, clock, jump):
    with store.begin() as tx:
        blocks.make_due(tx, "p", "2026-01-01", tx.now)
    name, fence = claim(store, "living")
    clock.advance(jump)
    _, next_fence = claim(store, "next")
    with pytest.raises(Conflict, match="taken over"), store.begin() as tx:
        end(tx, name, fence)
    with store.begin() as tx:
        end(tx, name, next_fence)


def end(tx, name, fence):
    moves.move(tx, tables.blocks, BLOCKS, name, BlockEvent.evaluate, actor="w", reason="done", fence=fence, evidence={})


@JUMPS
def test_an_effect_that_failed_is_tried_again_within_half_a_minute_whatever_the_clock_did(store, clock, jump):
    with store.begin() as tx:
        outbox.put(tx, "p", "route", "route/p/1", {})
        for _ in range(20):
            outbox.failed(tx, outbox.Intent(1, "route/p/1", "route", {}, 20), "nobody listens")
    clock.advance(jump)
    clock.advance(outbox.LONGEST_WAIT)
    with store.begin() as tx:
        assert [one.key for one in outbox.pending(tx, "p", ("route",))] == ["route/p/1"]


@JUMPS
def test_a_day_is_made_due_once_however_often_midnight_comes(store, clock, jump):
    for step in (DAY, jump, HOUR, -jump, DAY):
        clock.advance(step)
        with store.begin() as tx:
            newest = blocks.newest_day(tx, "p") or "2026-01-01"
            day = max(newest, clock.now().date().isoformat())
            if newest != day:
                blocks.make_due(tx, "p", day, tx.now)
    with store.read() as tx:
        days = [row.day for row in tx.execute(tables.blocks.select().order_by(tables.blocks.c.day))]
    assert days == sorted(set(days))


@pytest.fixture
def server(tmp_path):
    running = Running(Config(StateFolder(tmp_path / "state").create(), port=0), {1: Fake(1)})
    running.start()
    running.put(table())
    yield running
    running.stop()


@JUMPS
def test_a_correction_that_comes_after_the_clock_was_put_back_is_the_one_that_holds(server, jump):
    plane = server.server.plane
    at = time.time_ns() // 1000
    plane.now_us = lambda: at
    assert server.post("/labels", {"prediction_id": "p", "value": 1}).status == 200
    plane.now_us = lambda: at + jump // timedelta(microseconds=1)
    both = [{"prediction_id": "p", "value": value} for value in range(2, 40)]
    assert server.post("/labels", {"labels": both}).status == 200
    told = [
        {
            name: getattr(one, name)
            for name in ("label_id", "prediction_id", "value", "event_us", "received_us", "source")
        }
        for one in server.records(LabelRecord)
    ]
    assert resolve(pl.DataFrame(told, schema_overrides=SCHEMA).with_columns(revision=None)).labels[
        "value"
    ].to_list() == [39.0]


def test_predictions_of_two_starts_in_the_same_microsecond_have_different_ids(tmp_path, monkeypatch):
    monkeypatch.setattr("trueline.serving.server.time.time_ns", lambda: 1_700_000_000_000_000_000)
    state = StateFolder(tmp_path / "state").create()
    ids = []
    for _ in range(3):
        running = Running(Config(state, port=0), {1: Fake(1)})
        running.start()
        if not running.server.plane.versions.standing.ready:
            running.put(table())
        ids += [running.post("/predict", {"x": 1.0, "n": 1}).json["prediction_ids"][0] for _ in range(3)]
        running.stop()
    assert len(set(ids)) == 9
