"""Requests are read from the journals once each, whatever crashes in between."""

import pytest

from trueline.clock import ManualClock
from trueline.errors import Conflict
from trueline.journal.records import CrashRecord, PredictionRecord
from trueline.journal.segments import Writer
from trueline.releases import tail
from trueline.settings import StateFolder
from trueline.store.engine import open_sqlite


def prediction(number, *, arm="canary", outcome="answered", release="release-1", unit=None, weight=0.5):
    return PredictionRecord(
        request_id=f"r0-1-{number}",
        event_us=number,
        received_us=number,
        model="p",
        epoch=2,
        release=release,
        version=2 if arm == "canary" else 1,
        arm=arm,
        weight=weight,
        unit=unit or f"u{number}",
        outcome=outcome,
        answered_by=1,
        queue_us=1,
        exec_us=1,
        rows=1,
        features={"x": [1.0]},
        outputs=[1.0],
        error=None,
    )


@pytest.fixture
def folder(tmp_path):
    return StateFolder(tmp_path / "state").create()


@pytest.fixture
def store(folder):
    opened = open_sqlite(folder.database, ManualClock())
    yield opened
    opened.close()


@pytest.fixture
def journal(folder):
    with Writer(folder.journal("r0"), segment_bytes=1 << 20) as writer:
        yield writer


def observe(store, folder, *, sticky=False, keep=True):
    with store.read() as tx:
        before = tail.cursors(tx)
    found = tail.read_tail(folder, before)
    with store.begin() as tx:
        tail.take(tx, found)
        seen = tail.observations(tx, found, tail.Arms("release-1", 2, 1, 0.5), sticky=sticky)
        if not keep:
            raise KeyError("died before the commit")
    return seen


def test_each_request_is_observed_once(store, folder, journal):
    journal.append([prediction(1), prediction(2, arm="champion"), prediction(3, outcome="failed")])
    seen = observe(store, folder)
    assert [(one.canary, one.bad) for one in seen] == [(True, False), (False, False), (True, True)]
    assert observe(store, folder) == []
    journal.append([prediction(4)])
    assert len(observe(store, folder)) == 1


def test_a_death_before_the_commit_reads_the_same_again_and_counts_it_once(store, folder, journal):
    journal.append([prediction(1), prediction(2)])
    with pytest.raises(KeyError):
        observe(store, folder, keep=False)
    assert len(observe(store, folder)) == 2


def test_two_readers_of_the_same_tail_count_it_once(store, folder, journal):
    journal.append([prediction(1)])
    with store.read() as tx:
        before = tail.cursors(tx)
    first, second = tail.read_tail(folder, before), tail.read_tail(folder, before)
    with store.begin() as tx:
        tail.take(tx, first)
    with pytest.raises(Conflict, match="changes nothing"), store.begin() as tx:
        tail.take(tx, second)


def test_pinned_requests_and_those_of_another_release_are_no_evidence(store, folder, journal):
    journal.append([prediction(1, arm="pinned"), prediction(2, release="release-9"), prediction(3, weight=1.0)])
    assert observe(store, folder) == []


def test_with_a_sticky_key_a_user_counts_once_by_the_first_request(store, folder, journal):
    journal.append([prediction(1, unit="ada"), prediction(2, unit="ada", outcome="failed"), prediction(3, unit="bob")])
    assert [one.bad for one in observe(store, folder, sticky=True)] == [False, False]
    journal.append([prediction(4, unit="ada", outcome="failed")])
    assert observe(store, folder, sticky=True) == []


@pytest.mark.parametrize(("version", "seen"), [(2, [(True, True)]), (1, [(False, True)]), (7, [])])
def test_a_request_in_flight_at_a_death_is_a_bad_event_of_the_version_being_scored(
    store, folder, journal, version, seen
):
    journal.append([CrashRecord(version=version, event_us=1, received_us=1, in_flight=1, error="killed")])
    assert [(one.canary, one.bad) for one in observe(store, folder)] == seen


def test_skipping_takes_everything_without_a_look(store, folder, journal):
    journal.append([prediction(number) for number in range(50)])
    with store.read() as tx:
        before = tail.cursors(tx)
    skipped = tail.skip(folder, before)
    with store.begin() as tx:
        tail.take(tx, skipped)
    assert observe(store, folder) == []
