"""Two control processes on one database: one leads; the other goes on at once, or within fifteen seconds, and once."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta

import pytest

from trueline.clock import SystemClock
from trueline.control import events, releases, runs
from trueline.domain.releases import Release, ReleaseState
from trueline.domain.runs import RUNS, Purpose, RunEvent, RunState
from trueline.domain.versions import VERSIONS, VersionEvent
from trueline.security import tokens
from trueline.settings import StateFolder
from trueline.store import leases, moves, rows, tables
from trueline.store.engine import open_store

pytestmark = pytest.mark.real

log = logging.getLogger(__name__)  # pytest --log-cli-level=INFO shows how long it took

TAKEOVER_SECONDS = 15.0
PATIENCE = 60.0  # for a process to start on a busy machine
PROJECT = """\
version: 1
project: two
data: {source: rows.csv, target: y}
train: model.py:fit
"""


class Machines:
    """Control processes, each as on a machine of its own where the database allows it."""

    def __init__(self, folder, database):
        self.folder, self.database = folder, database
        self.shared = isinstance(database, str)
        text = PROJECT + ("database: env:TWO_DATABASE\n" if self.shared else "")
        (folder / "trueline.yaml").write_text(text)
        self.store = open_store(database, SystemClock())
        self.processes = []

    def start(self):
        """One more control process; waits until it leads or stands by."""
        number = len(self.processes)
        state = StateFolder(self.folder / f"state-{number}" if self.shared else self.folder).create()
        tokens.ensure(state.token)
        command = [sys.executable, "-m", "trueline.processes.control", "--port", "0", "--state", str(state.root)]
        log = self.folder / f"log-{number}"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [*command, "--project", str(self.folder / "trueline.yaml")],
                stderr=stderr,
                env={**os.environ, "TWO_DATABASE": str(self.database), "OMP_NUM_THREADS": "1"},
            )
        self.processes.append(process)
        words = b"stands by" if number else b"leads"
        self.wait(lambda: words in log.read_bytes(), f"start of process {number}", log)
        return process

    def leader(self):
        """The number of the process that leads."""
        with self.store.read() as tx:
            lease = leases.look(tx, "control/two")
        return None if lease is None or lease.owner is None else int(lease.owner.split(":")[1])

    def wait(self, met, what, log=None, seconds=PATIENCE):
        """How long it took."""
        started = time.monotonic()
        while not met():
            passed = time.monotonic() - started
            assert passed < seconds, f"{what} did not come within {seconds} s {log.read_text() if log else ''}"
            with suppress(subprocess.TimeoutExpired):
                self.processes[-1].wait(0.05)
        return time.monotonic() - started

    def release(self):
        """Have one more version released, which is the leader's work; the release's id."""
        with self.store.begin() as tx:
            now = tx.now
            asked = {
                "purpose": Purpose.manual,
                "entry": "model.py:fit",
                "params": {},
                "actor": "ada",
                "reason": "asked",
            }
            run = runs.start(tx, "two", window_from=now, cut_at=now, release=True, **asked)
            words = {"waiting": RunState.queued, "busy": RunState.running, "lease": timedelta(minutes=1)}
            _, fence = moves.claim(tx, tables.runs, RUNS, RunEvent.claim, project="two", owner="w", **words)
            made = runs.Trained("sha256:0", "onnx", "regression", {}, {}, {})
            number = runs.succeed(tx, run, fence, made, actor="w").number
            version = runs.version_id("two", number)
            moves.move(tx, tables.versions, VERSIONS, version, VersionEvent.approve, actor="w", reason="passed")
            return releases.request(tx, "two", number, vouched=True, actor="ada", reason="asked").id

    def begun(self, release_id):
        with self.store.read() as tx:
            return rows.get(tx, Release, release_id).state is not ReleaseState.pending

    def moves(self, release_id):
        with self.store.read() as tx:
            return [event.kind for event in events.about(tx, "two", release_id)]

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self.store.close()
        for path in (self.folder, *self.folder.glob("state-*")):
            shutil.rmtree(StateFolder(path).sockets, ignore_errors=True)


@pytest.fixture
def machines(tmp_path, database):
    made = Machines(tmp_path, database)
    yield made
    made.close()


@pytest.mark.slow
def test_a_killed_leader_is_followed_and_nothing_is_done_twice(machines):
    first = machines.start()
    machines.wait(lambda: machines.leader() == first.pid, "a leader")
    second = machines.start()
    before = machines.release()
    machines.wait(lambda: machines.begun(before), "the first release")
    assert machines.leader() == first.pid
    after = machines.release()
    first.kill()
    first.wait()
    took = machines.wait(lambda: machines.begun(after), "the takeover", seconds=TAKEOVER_SECONDS)
    log.info("taken over %.1f s after kill -9", took)
    assert machines.leader() == second.pid
    assert machines.moves(before)[:2] == ["release.create", "release.promote"]
    assert machines.moves(after) == ["release.create", "release.start_canary"]
    with machines.store.read() as tx:
        assert len(events.after(tx, "two", 0, kind="control.takeover")) == 1

    third = machines.start()
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE) == 0
    handed = machines.wait(lambda: machines.leader() == third.pid, "the handover", seconds=TAKEOVER_SECONDS)
    log.info("handed over %.1f s after the end of a leader that was asked to stop", handed)
    with machines.store.read() as tx:
        assert len(events.after(tx, "two", 0, kind="control.takeover")) == 1


@pytest.mark.slow
def test_a_frozen_leader_is_replaced_within_fifteen_seconds_and_stands_by_when_it_thaws(tmp_path, request):
    """As a machine that hangs, or that the network has lost: nobody can say that it is gone."""
    url = request.getfixturevalue("shared_postgresql")
    request.getfixturevalue("postgresql").empty(url)
    machines = Machines(tmp_path, url)
    try:
        first = machines.start()
        machines.wait(lambda: machines.leader() == first.pid, "a leader")
        second = machines.start()
        first.send_signal(signal.SIGSTOP)
        frozen = time.monotonic()
        release = machines.release()
        machines.wait(lambda: machines.begun(release), "the takeover", seconds=TAKEOVER_SECONDS)
        log.info("taken over %.1f s after the leader froze", time.monotonic() - frozen)
        assert machines.leader() == second.pid
        first.send_signal(signal.SIGCONT)
        later = machines.release()
        machines.wait(lambda: machines.begun(later), "the next release")
        assert machines.leader() == second.pid
        assert machines.moves(later).count("release.start_canary") == 1
        assert first.poll() is None
    finally:
        machines.close()
