"""A transition is one guarded move with its event; leases hand work over; losers change nothing."""

import threading
from datetime import timedelta

import pytest

from trueline.domain.events import Event
from trueline.domain.runs import RUNS, Purpose, Run, RunEvent, RunState
from trueline.errors import Conflict, NotFound
from trueline.store import moves, outbox, rows, tables

LEASE = timedelta(seconds=30)


def queue(store, count=1):
    ids = []
    with store.begin() as tx:
        for _ in range(count):
            number = moves.number(tx, "p", "run")
            values = {
                "id": f"run-{number}",
                "number": number,
                "project": "p",
                "purpose": Purpose.manual,
                "entry": "model.py:fit",
                "params": {},
                "release": True,
                "cut_at": tx.now,
                "window_from": tx.now,
                "reason": "asked",
                "actor": "ada",
                "created_at": tx.now,
            }
            moves.create(tx, tables.runs, RUNS, values, actor="ada", reason="asked")
            ids.append(f"run-{number}")
    return ids


def claim(store, owner="w1"):
    with store.begin() as tx:
        return moves.claim(
            tx,
            tables.runs,
            RUNS,
            RunEvent.claim,
            project="p",
            waiting=RunState.queued,
            busy=RunState.running,
            owner=owner,
            lease=LEASE,
        )


def finish(store, run_id, fence, event=RunEvent.succeed):
    with store.begin() as tx:
        return moves.move(tx, tables.runs, RUNS, run_id, event, actor="w", reason="done", fence=fence)


def test_a_run_is_created_claimed_and_finished_with_one_event_each(store):
    (run_id,) = queue(store)
    assert claim(store) == (run_id, 1)
    assert finish(store, run_id, 1) is RunState.succeeded
    with store.read() as tx:
        kinds = [event.kind for event in rows.find(tx, Event)]
        assert rows.get(tx, Run, run_id).state is RunState.succeeded
    assert kinds == ["run.create", "run.claim", "run.succeed"]


def test_an_impossible_move_changes_nothing_and_writes_no_event(store):
    (run_id,) = queue(store)
    with pytest.raises(Conflict, match="is queued: it cannot succeed"):
        finish(store, run_id, None)
    with store.read() as tx:
        assert [event.kind for event in rows.find(tx, Event)] == ["run.create"]


def test_moving_what_is_not_there_says_so(store):
    with pytest.raises(NotFound, match="there is no run run-9"):
        finish(store, "run-9", None)


def test_a_claimed_run_is_not_claimed_again_before_its_lease_ends(store, clock):
    (run_id,) = queue(store)
    assert claim(store, "w1") == (run_id, 1)
    assert claim(store, "w2") is None
    clock.advance(LEASE + timedelta(seconds=1))
    assert claim(store, "w2") == (run_id, 2)


def test_a_slow_holder_finds_its_write_refused_after_a_takeover(store, clock):
    (run_id,) = queue(store)
    _, slow = claim(store, "w1")
    clock.advance(LEASE * 2)
    _, quick = claim(store, "w2")
    with pytest.raises(Conflict, match="taken over by somebody else"):
        finish(store, run_id, slow)
    assert finish(store, run_id, quick) is RunState.succeeded


def test_a_renewed_lease_is_kept_and_a_lost_one_is_told(store, clock):
    (run_id,) = queue(store)
    _, fence = claim(store)
    clock.advance(timedelta(seconds=20))
    with store.begin() as tx:
        assert moves.renew(tx, tables.runs, run_id, fence, LEASE)
    clock.advance(timedelta(seconds=20))
    assert claim(store, "w2") is None
    with store.begin() as tx:
        assert not moves.renew(tx, tables.runs, run_id, fence + 1, LEASE)


def test_racing_workers_each_get_different_runs_and_every_run_once(store):
    ids = queue(store, 40)
    won: list[str] = []

    def work(owner):
        while (got := claim(store, owner)) is not None:
            won.append(got[0])
            finish(store, *got)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted(ids)
    with store.read() as tx:
        claims = [event.ref for event in rows.find(tx, Event) if event.kind == "run.claim"]
    assert sorted(claims) == sorted(ids)


def test_a_transaction_that_raises_leaves_nothing(store):
    def half_done():
        with store.begin() as tx:
            tx.record("a.b", "x", project="p", actor="a", reason="r")
            raise KeyError("anything")

    with pytest.raises(KeyError):
        half_done()
    with store.read() as tx:
        assert rows.find(tx, Event) == []


def test_an_intent_is_kept_once_per_key_and_waits_longer_after_each_failure(store, clock):
    with store.begin() as tx:
        outbox.put(tx, "p", "route", "route/p/1", {"n": 1})
        outbox.put(tx, "p", "route", "route/p/1", {"n": 2})
    with store.begin() as tx:
        (intent,) = outbox.pending(tx, "p", ("route",))
        assert intent.payload == {"n": 1}
        outbox.failed(tx, intent, "nobody there")
    with store.read() as tx:
        assert outbox.pending(tx, "p", ("route",)) == []
        assert outbox.count_open(tx, "p", ("route",)) == 1
    clock.advance(timedelta(seconds=1))
    with store.begin() as tx:
        (intent,) = outbox.pending(tx, "p", ("route",))
        outbox.done(tx, intent)
    with store.read() as tx:
        assert outbox.count_open(tx, "p", ("route",)) == 0
