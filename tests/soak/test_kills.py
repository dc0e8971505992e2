"""Kill -9 of every process of `up` at random moments of a short loop: nothing acknowledged is lost, nothing is doubled."""

import collections
import json
import os
import random
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from deltalake import DeltaTable
from kill_world import DAY, START, TICK, Caller, Killer, attempt, poll

from trueline.domain.blocks import BLOCKS
from trueline.domain.gates import GATES
from trueline.domain.incidents import INCIDENTS
from trueline.domain.releases import RELEASES
from trueline.domain.runs import RUNS
from trueline.domain.versions import VERSIONS
from trueline.sockets import ask

KILLS = int(os.environ.get("TRUELINE_SOAK_KILLS", "50"))
MOST_DAYS = 200
RUNS_KILLED = 5
PERSON_EVERY = 12  # ticks: somebody trains by hand, so that gates and canaries are under way among the kills
MACHINES = (RUNS, VERSIONS, GATES, RELEASES, BLOCKS, INCIDENTS)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its victims in /proc"),
]


@pytest.mark.timeout(240)
def test_killed_at_fifty_random_moments_nothing_is_lost_and_nothing_is_doubled(world):
    seed = draw_seed()
    luck = random.Random(seed)
    began = time.monotonic()
    world.start()
    client = world.client()
    first_release(client)
    caller = Caller(world.addresses["serve"], luck)
    killer = Killer(world, random.Random(seed + 1), KILLS)
    killer.start()
    try:
        end = live(world, client, caller, killer)
    except BaseException:
        world.end()  # nobody waits for an answer any more
        raise
    finally:
        killer.stopping.set()
        killer.join()
        caller.close()
    assert killer.error is None, killer.error
    killing = time.monotonic() - began
    world.patiently(lambda: client.replay(end + 3 * DAY, timeout=90))
    world.patiently(lambda: ask(world.state.socket("shipper-r0"), {"op": "ship"}, timeout=60))
    status = world.patiently(client.status)
    poll(lambda: not waiting(world), what="the delivery of what tracking is told")
    client.close()
    assert world.stop() == 0

    assert collections.Counter(killer.done).total() == KILLS
    assert status.idle
    assert status.champion is not None
    assert status.acknowledged == status.epoch
    rows = stored(world)
    figures = {
        "seed": seed,
        "kills": dict(collections.Counter(killer.done)),
        "days": (end - START) / DAY,
        "requests_retried": caller.lost,
        **what_is_stored(world, caller),
        **what_happened(rows),
        "seconds": round(time.monotonic() - began, 1),
        "seconds_of_kills": round(killing, 1),
    }
    sys.stdout.write(f"{json.dumps(figures)}\n")
    every_path_is_legal(rows)
    everything_came_to_an_end(rows, end)
    each_thing_was_made_once(world, rows)


def test_a_run_without_a_server_that_is_killed_again_and_again_ends_well_when_it_is_let(world):
    luck = random.Random(draw_seed())
    reached = collections.Counter()
    for _ in range(RUNS_KILLED):
        world.run_and_kill(luck.uniform(1.0, 4.5))
        reached.update(row["state"] for row in stored(world)["runs"]) if world.state.database.exists() else None
    world.run()
    let_leases_run_out(world)  # of what the killed ones held
    world.run()
    rows = stored(world)
    sys.stdout.write(f"{json.dumps({'killed': RUNS_KILLED, 'runs': len(rows['runs']), 'seen': dict(reached)})}\n")
    every_path_is_legal(rows)
    assert {row["state"] for row in rows["runs"]} == {"succeeded"}
    assert {row["verdict"] for row in rows["gates"]} == {"pass"}
    assert len({row["key"] for row in rows["runs"]}) == len(rows["versions"]) == 1
    assert rows["endpoints"][0]["champion"] == 1
    each_thing_was_made_once(world, rows)


def let_leases_run_out(world):
    with sqlite3.connect(world.state.database) as database:
        for table in ("runs", "gates", "blocks"):
            database.execute(f"update {table} set leased_until = 0 where owner is not null")  # noqa: S608


def draw_seed():
    seed = int(os.environ.get("TRUELINE_SOAK_SEED", time.time_ns() % 1_000_000))
    sys.stdout.write(f"\nTRUELINE_SOAK_SEED={seed}\n")
    return seed


def first_release(client):
    client.replay(START)
    client.start_run(reason="the first model")
    client.replay(START + TICK / 100)
    assert client.status().champion is not None


def live(world, client, caller, killer):
    """Days go by until the killer has finished; callers ask while control is busy with the tick before."""
    now, ticks = START, 0
    with ThreadPoolExecutor(1) as control:
        advancing = None
        while killer.is_alive():
            now, ticks = now + TICK, ticks + 1
            assert now < START + MOST_DAYS * DAY, f"only {len(killer.done)} kills in {MOST_DAYS} days"
            if ticks % PERSON_EVERY == 0:
                control.submit(attempt, lambda now=now: client.start_run(reason=f"by hand at {now}"))
            caller.live_through(now, busy=lambda future=advancing: future is not None and not future.done())
            if advancing is not None:
                advancing.result()
            advancing = control.submit(world.patiently, lambda now=now: client.replay(now, timeout=60))
        advancing.result()
        control.submit(client.close).result()  # its connection in that thread
    return now


# ---- what must be true ---------------------------------------------------------------------------------------------


def what_is_stored(world, caller):
    predictions = pl.from_arrow(DeltaTable(world.state.table("predictions")).to_pyarrow_table())
    routed = predictions.filter(pl.col("arm").is_not_null() & (pl.col("arm") != "shadow"))
    assert routed["prediction_id"].is_unique().all()
    scored = predictions.filter(pl.col("arm") == "shadow")
    assert scored.select("prediction_id", "version").is_unique().all()
    by_id = {row["prediction_id"]: row for row in routed.iter_rows(named=True)}
    for name, told in caller.predictions.items():
        assert name in by_id, f"{name} was acknowledged and is not stored"
        assert (by_id[name]["prediction"], by_id[name]["answered_by"]) == (told.prediction, told.version)
    labels = pl.from_arrow(DeltaTable(world.state.table("labels")).to_pyarrow_table())
    assert labels["label_id"].is_unique().all()
    kept = {row["label_id"]: (row["prediction_id"], row["value"]) for row in labels.iter_rows(named=True)}
    assert {name: kept.get(name) for name in caller.labels} == caller.labels
    return {
        "predictions_acknowledged": len(caller.predictions),
        "predictions_stored": routed.height,
        "shadow_scores": scored.height,
        "labels_acknowledged": len(caller.labels),
        "labels_stored": labels.height,
    }


def stored(world):
    """The control plane's tables as they are, each a list of rows."""
    with sqlite3.connect(world.state.database) as database:
        database.row_factory = sqlite3.Row
        names = ("runs", "versions", "gates", "releases", "blocks", "incidents", "endpoints", "outbox", "events")
        return {name: [dict(row) for row in database.execute(f"select * from {name}")] for name in names}  # noqa: S608


def waiting(world):
    return [row for row in stored(world)["outbox"] if not row["done"]]


def what_happened(rows):
    happened = collections.Counter(event["kind"] for event in rows["events"])
    over = sum("taken over" in event["reason"] for event in rows["events"])
    nouns = ("run", "gate", "release", "block", "incident")
    return {"events": {kind: n for kind, n in sorted(happened.items()) if kind.startswith(nouns)}, "taken_over": over}


def every_path_is_legal(rows):
    """Each row's events, one after the other, lead through its machine to the state that it is in."""
    for machine in MACHINES:
        events = collections.defaultdict(list)
        words = {word for row in machine.table.values() for word in row}
        for event in sorted(rows["events"], key=lambda event: event["id"]):
            noun, _, word = event["kind"].partition(".")
            if noun == machine.noun and word in words:
                events[event["ref"]].append(word)
        for row in rows[f"{machine.noun}s"]:
            state = machine.initial
            for word in events.pop(row["id"], ()):
                state = machine.next(state, next(one for one in machine.table[state] if one == word), which=row["id"])
            assert state == row["state"], f"{row['id']} is {row['state']}; its events lead to {state}"
        assert not events, f"events of {machine.noun}s that are not there: {list(events)}"


def everything_came_to_an_end(rows, end):
    assert {row["state"] for row in rows["runs"]} == {"succeeded"}
    assert {row["state"] for row in rows["gates"]} == {"decided"}
    assert {row["verdict"] for row in rows["gates"]} <= {"pass", "fail", "inconclusive"}
    days = [START.date() + n * (DAY) for n in range((end - START).days)]
    judged = {row["day"] for row in rows["blocks"] if row["state"] == "judged"}
    assert {day.isoformat() for day in days} <= judged
    assert {row["state"] for row in rows["blocks"]} == {"judged"}
    assert any(row["purpose"] == "rehearsal" for row in rows["versions"])
    assert not [row for row in rows["outbox"] if not row["done"]]


def each_thing_was_made_once(world, rows):
    trained = [row["run"] for row in rows["versions"]]
    assert len(trained) == len(set(trained))
    assert [row["number"] for row in sorted(rows["versions"], key=lambda row: row["number"])] == list(
        range(1, len(trained) + 1)
    )
    counted = collections.Counter(event["kind"] + event["ref"] for event in rows["events"])
    assert not [key for key, n in counted.items() if n > 1 and key.startswith(("route.set", "version.create"))]
    epochs = [event["ref"] for event in rows["events"] if event["kind"] == "route.set"]
    assert epochs == [f"epoch-{n + 1}" for n in range(len(epochs))]
    dataset = pl.from_arrow(DeltaTable(world.state.table("dataset")).to_pyarrow_table())
    assert dataset["id"].is_unique().all()
