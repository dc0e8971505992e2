"""Requests are read from the journals once each, whatever crashes in between."""

import pytest

from trueline.clock import ManualClock
from trueline.errors import Conflict
from trueline.journal.records import CrashRecord, PredictionRecord, ShadowRecord
from trueline.journal.segments import Writer
from trueline.releases import tail
from trueline.settings import StateFolder
from trueline.store.engine import open_store


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
def store(database):
    opened = open_store(database, ManualClock())
    yield opened
    opened.close()


@pytest.fixture
def journal(folder):
    with Writer(folder.journal("r0"), segment_bytes=1 << 20) as writer:
        yield writer


def observe(store, folder, *, sticky=False, keep=True):
    with store.read() as tx:
        before = tail.cursors(tx, "p")
    found = tail.read_tail(folder, before)
    with store.begin() as tx:
        tail.take(tx, "p", found)
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
        before = tail.cursors(tx, "p")
    first, second = tail.read_tail(folder, before), tail.read_tail(folder, before)
    with store.begin() as tx:
        tail.take(tx, "p", first)
    with pytest.raises(Conflict, match="changes nothing"), store.begin() as tx:
        tail.take(tx, "p", second)


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
        before = tail.cursors(tx, "p")
    skipped = tail.skip(folder, before)
    with store.begin() as tx:
        tail.take(tx, "p", skipped)
    assert observe(store, folder) == []


def test_what_it_scored_in_shadow_of_this_release_is_a_trial_of_its_own_rate():
    def shadow(number, *, version=2, release="release-1", outcome="answered"):
        return ShadowRecord(f"r0-1-{number}", number, number, version, release, outcome, 1, 1, [1.0], None)

    records = (
        shadow(1),
        shadow(2, outcome="failed"),
        shadow(3, version=1),  # the champion, beside a canary's answer
        shadow(4, release="release-0"),
        shadow(5, release=None),
        prediction(6),
    )
    arms = tail.Arms("release-1", 2, 1, 0.5)
    assert tail.trials(tail.Tail(records, {}, {}), arms) == (2, 1)
