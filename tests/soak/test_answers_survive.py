"""Kill -9 of the model server under load, a hundred times: every answer that was given is in the journal, once, as it was."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter

import polars as pl
import pytest
from answers_world import Caller, Shipping, World, package, shipper

from trueline.journal import segments
from trueline.journal.records import CrashRecord, LabelRecord, PredictionRecord, ShadowRecord, prediction_id
from trueline.settings import StateFolder
from trueline.sockets import ask

KILLS = int(os.environ.get("TRUELINE_SOAK_KILLS", "100"))
CALLERS = 4
AT_WORK = (0, 60)  # answers that a life gives, at least
A_MOMENT = 0.02  # seconds after that, at most
STARTING = (0.05, 0.6)  # seconds after which one that is still starting is killed
DRAINING = 0.02  # at most, between SIGTERM and the kill
SHIPPER_KILLS = 5  # with everything still to be shipped

pytestmark = [pytest.mark.slow, pytest.mark.real]


@pytest.fixture
def world(tmp_path, monkeypatch):
    temp = tempfile.mkdtemp(prefix="answers-")  # sockets are there, and go with it
    monkeypatch.setenv("TMPDIR", temp)
    monkeypatch.setattr("tempfile.tempdir", temp)
    made = World(StateFolder(tmp_path / "state").create(), package(tmp_path / "models"), random.Random(draw_seed()))
    yield made
    made.end()
    shutil.rmtree(temp, ignore_errors=True)


@pytest.mark.timeout(900)
def test_killed_a_hundred_times_under_load_every_answer_is_kept_once_and_as_it_was(world):
    began = time.monotonic()
    callers = [Caller(f"caller-{number}", world, random.Random(world.luck.random())) for number in range(CALLERS)]
    shipping = Shipping(world, random.Random(world.luck.random()))
    world.start()
    world.route()
    for thread in (*callers, shipping):
        thread.start()
    how = Counter(live_and_die(world) for _ in range(KILLS))
    shipping.stopping.set()
    world.end()
    for thread in (*callers, shipping):
        thread.join(60)
        assert thread.error is None, repr(thread.error)
    killing = time.monotonic() - began

    assert sum(how.values()) == KILLS
    found = [record for record, _ in segments.read(world.journal)]
    told = [one for caller in callers for one in caller.told]
    every_answer_is_in_the_journal_once(found, told, world)
    every_label_is_in_the_journal_once(found, {name: value for one in callers for name, value in one.labels.items()})
    what_was_not_answered_is_there_once_at_most(found)

    kills = ship_to_the_end(world)
    each_is_in_the_table_once(found, world.state)
    assert len(segments.numbers(world.journal)) == 1, "what is in the tables may go, and is gone"
    figures = {
        "kills": dict(how),
        "answers": len(told),
        "rows": sum(len(one.rows) for one in told),
        "labels": sum(len(one.labels) for one in callers),
        "unanswered_but_kept": sum(isinstance(one, PredictionRecord) for one in found) - len(told),
        "fell_back": sum(getattr(one, "outcome", "") == "fell_back" for one in found),
        "crashes_noted": sum(isinstance(one, CrashRecord) for one in found),
        "tails_torn_by_a_kill": world.torn,
        "not_200": dict(sum((Counter(one.other) for one in callers), Counter())),
        "shipper_kills": shipping.kills + kills,
        "seconds_of_kills": round(killing, 1),
        "seconds": round(time.monotonic() - began, 1),
    }
    sys.stdout.write(f"{json.dumps(figures)}\n")
    assert len(told) > 10 * KILLS


def draw_seed() -> int:
    seed = int(os.environ.get("TRUELINE_SOAK_SEED", time.time_ns() % 1_000_000))
    sys.stdout.write(f"\nTRUELINE_SOAK_SEED={seed}\n")
    return seed


def live_and_die(world: World) -> str:
    """Kill the life that is at work, at a moment that is drawn; the next one may die as it starts, or as it drains."""
    luck = world.luck
    world.wait_for_answers(luck.randint(*AT_WORK))
    time.sleep(luck.uniform(0, A_MOMENT))  # the moment of the kill is what is drawn: there is no condition to wait for
    how = luck.choices(("working", "draining", "starting"), (8, 1, 1))[0]
    if how == "draining":
        world.life.terminate()
        time.sleep(luck.uniform(0, DRAINING))
    world.kill()
    if luck.random() < 0.2:
        world.leave_a_torn_tail()
    if how == "starting":  # two deaths in a row count as one
        world.life = type(world.life)(world.state)
        time.sleep(luck.uniform(*STARTING))
        world.kill()
    world.start()
    return how


def every_answer_is_in_the_journal_once(found, told, world):
    by_id = {}
    for record in found:
        if isinstance(record, PredictionRecord):
            assert record.request_id not in by_id, f"{record.request_id} is there twice"
            by_id[record.request_id] = record
    assert len({one.request_id for one in told}) == len(told), "an id was given to two requests"
    shares = {route.version: route.weight for route in world.table.routes}
    for one in told:
        record = by_id.get(one.request_id)
        assert record is not None, f"{one.request_id} was answered and is not there"
        assert (record.model, record.rows, record.answered_by) == ("m", len(one.rows), one.version)
        assert (record.outputs, record.unit) == (one.outputs, one.unit)
        assert rows_of(record) == one.rows
        assert (record.epoch, record.release) == (1, "release-1")
        if record.outcome == "fell_back":  # a machine too busy for the canary: the champion answered
            assert (record.version, record.arm, one.version) == (2, "canary", 1)
            assert record.error.startswith("timed_out")
        else:
            assert (record.outcome, record.error, record.version) == ("answered", None, one.version)
            assert record.exec_us > 0
        arm = {1: "champion", 2: "canary"}.get(record.version) if one.asked_version is None else "pinned"
        assert record.arm == arm
        assert record.weight == (1.0 if arm == "pinned" else shares[record.version])
        assert one.asked_version in (None, record.version)
        assert one.sent_us <= record.received_us == record.event_us <= one.heard_us
        assert 0 <= record.queue_us + record.exec_us <= one.heard_us - one.sent_us


def every_label_is_in_the_journal_once(found, acknowledged):
    kept = Counter()
    for record in found:
        if isinstance(record, LabelRecord):
            kept[record.label_id] += 1
            if record.label_id in acknowledged:
                assert acknowledged[record.label_id] == (record.prediction_id, record.value)
    assert set(acknowledged) <= set(kept)
    assert set(kept.values()) == {1}


def what_was_not_answered_is_there_once_at_most(found):
    units = Counter(record.unit for record in found if isinstance(record, PredictionRecord))
    assert set(units.values()) == {1}
    shadows = Counter((record.request_id, record.version) for record in found if isinstance(record, ShadowRecord))
    assert set(shadows.values()) == {1}
    assert "never" not in {record.label_id for record in found if isinstance(record, LabelRecord)}
    assert {record.version for record in found if isinstance(record, CrashRecord)} <= {1, 2, 3}


def rows_of(record):
    """The features of each row, however the record holds them."""
    features = record.features
    if isinstance(features, dict):
        return [dict(zip(features, values, strict=True)) for values in zip(*features.values(), strict=True)]
    return [dict(row) for row in features]


def ship_to_the_end(world) -> int:
    """Everything, by shippers that are killed while they do it, and then by one that is not."""
    for _ in range(SHIPPER_KILLS):
        one = Shipping(world, world.luck, deleting=True)
        with shipper(world.state) as process:
            one._ask_and_kill(process)
    with shipper(world.state):
        answer = ask(world.state.socket("shipper-r0"), {"op": "ship", "read_through": 2**62}, timeout=60)
    assert answer["ok"]
    return SHIPPER_KILLS


def each_is_in_the_table_once(found, state):
    table = pl.read_delta(str(state.table("predictions"))).filter(pl.col("arm") != "shadow")
    assert table["prediction_id"].is_unique().all()
    kept = {row["prediction_id"]: row for row in table.iter_rows(named=True)}
    expected = 0
    for record in found:
        if not isinstance(record, PredictionRecord):
            continue
        for number, features in enumerate(rows_of(record)):
            expected += 1
            row = kept[prediction_id(record.request_id, number)]
            assert json.loads(row["features"]) == features
            assert row["prediction"] == record.outputs[number]
            named = ("version", "answered_by", "queue_us", "exec_us", "unit", "received_us", "outcome", "arm", "weight")
            assert [row[name] for name in named] == [getattr(record, name) for name in named]
    assert len(kept) == expected
    labels = pl.read_delta(str(state.table("labels")))["label_id"]
    assert sorted(labels) == sorted(record.label_id for record in found if isinstance(record, LabelRecord))
