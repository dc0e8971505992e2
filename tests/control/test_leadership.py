"""One control process leads; another goes on when it is gone, silent or has let go; who was replaced changes nothing."""

import os
import subprocess
import sys

import pytest

from trueline.control.leadership import BEAT_SECONDS, PATIENCE_SECONDS, Leadership
from trueline.domain.events import Event
from trueline.errors import Conflict
from trueline.store import holders, rows

LIVE_ON = "import sys; from trueline.store import holders; print(holders.me(), flush=True); sys.stdin.read()"


class Watch:
    """A machine's monotonic clock, turned by hand."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def candidate(store, watch):
    """Make processes of other machines: nobody can tell whether they live."""
    return lambda name, monotonic=watch: Leadership(store, "p", me=f"{name}:1:1", monotonic=monotonic)


def kinds(store):
    with store.read() as tx:
        return [event.kind for event in rows.find(tx, Event)]


def test_the_first_to_ask_leads_and_goes_on_leading(candidate, watch):
    first, second = candidate("a"), candidate("b")
    for _ in range(20):
        assert (first.hold(), second.hold()) == (True, False)
        watch.seconds += BEAT_SECONDS


def test_a_silent_leader_is_replaced_after_the_patience_and_not_before(candidate, watch, store):
    first, second = candidate("a"), candidate("b")
    assert first.hold()
    assert not second.hold()
    watch.seconds += PATIENCE_SECONDS - 0.1
    assert not second.hold()
    watch.seconds += 0.1
    assert second.hold()
    assert kinds(store) == ["control.takeover"]
    assert not first.hold()
    assert not first.held


def test_of_two_that_wait_one_takes_over(candidate, watch):
    first, *others = (candidate(name) for name in "abcd")
    assert first.hold()
    assert [other.hold() for other in others] == [False] * 3
    watch.seconds += PATIENCE_SECONDS
    assert [other.hold() for other in others] == [True, False, False]


def test_a_leader_that_lets_go_is_followed_at_once(candidate, store):
    first, second = candidate("a"), candidate("b")
    assert first.hold()
    first.release()
    assert second.hold()
    assert kinds(store) == []


def test_clocks_of_two_machines_are_never_compared(candidate):
    """One machine has run for a minute, the other for a year: neither steals, neither keeps."""
    young, old = Watch(), Watch()
    old.seconds = 3e7
    first, second = candidate("a", old), candidate("b", young)
    assert first.hold()
    assert not second.hold()
    young.seconds += PATIENCE_SECONDS
    assert second.hold()
    old.seconds += BEAT_SECONDS
    assert not first.hold()


def write(store, leadership):
    with store.guarded(leadership.check).begin() as tx:
        tx.record("a.b", "x", project="p", actor="a", reason="r")


def test_who_was_replaced_changes_nothing(candidate, watch, store):
    first, second = candidate("a"), candidate("b")
    with pytest.raises(Conflict, match="another control process leads"):
        write(store, first)
    assert first.hold()
    write(store, first)
    second.hold()
    watch.seconds += PATIENCE_SECONDS
    assert second.hold()
    with pytest.raises(Conflict, match="changes nothing"):
        write(store, first)
    write(store, second)
    assert kinds(store) == ["a.b", "control.takeover", "a.b"]


def test_projects_of_one_database_are_led_apart(store, watch):
    assert Leadership(store, "p", me="a:1:1", monotonic=watch).hold()
    assert Leadership(store, "q", me="b:1:1", monotonic=watch).hold()


def test_a_killed_process_of_this_machine_is_followed_at_once(store, watch):
    with subprocess.Popen(
        [sys.executable, "-c", LIVE_ON], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        owner = process.stdout.readline().strip()
        assert Leadership(store, "p", me=owner, monotonic=watch).hold()
        assert not Leadership(store, "p", monotonic=watch).hold()
        process.kill()
    assert Leadership(store, "p", monotonic=watch).hold()


def test_a_holder_is_known_to_be_gone_only_on_its_own_machine():
    place, process, started = holders.me().split(":")
    assert int(process) == os.getpid()
    assert not holders.gone(holders.me())
    assert holders.gone(f"{place}:{process}:{int(started) + 1}")  # the number was given again
    assert not holders.gone(f"elsewhere:{process}:{int(started) + 1}")
    assert not holders.gone("worker-1")
