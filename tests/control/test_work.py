"""Work is taken up once, kept while it is done, taken over from a worker that is gone, and put back for later."""

import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta

import pytest

from trueline.control import blocks, work
from trueline.control.context import Context
from trueline.control.work import Claimed, Kind
from trueline.domain.blocks import BLOCKS, BlockEvent, BlockState
from trueline.domain.events import Event
from trueline.domain.project import Data, Project
from trueline.errors import Conflict
from trueline.settings import StateFolder
from trueline.store import holders, moves, rows, tables

WORK = Kind(
    tables.blocks,
    BLOCKS,
    claim=BlockEvent.claim,
    requeue=BlockEvent.requeue,
    waiting=BlockState.due,
    busy=BlockState.evaluating,
    retry=timedelta(seconds=1),
)
DIE = "import os; from trueline.store import holders; print(holders.me(), flush=True); os.kill(os.getpid(), 9)"


@dataclass(frozen=True)
class Worker(Context):
    """A worker of another machine, or one whose death this machine knows of."""

    name: str = "elsewhere:1:1"

    @property
    def holder(self):
        return self.name


@pytest.fixture
def worker(tmp_path, store, clock):
    def make(name):
        project = Project("p", Data("x.csv", "y"), "model.py:fit")
        return Worker(project, tmp_path, StateFolder(tmp_path), store, clock, actor="worker", name=name)

    return make


@pytest.fixture
def days(store):
    with store.begin() as tx:
        for day in ("2024-03-01", "2024-03-02"):
            blocks.make_due(tx, "p", day, tx.now)
    return ("p/2024-03-01", "p/2024-03-02")


def killed():
    """The name of a process that was."""
    ran = subprocess.run([sys.executable, "-c", DIE], stdout=subprocess.PIPE, text=True, check=False)
    return ran.stdout.strip()


def test_each_piece_goes_to_one_worker_oldest_first(worker, days):
    assert work.claim(worker("a:1:1"), WORK) == Claimed(days[0], 1)
    assert work.claim(worker("b:1:1"), WORK) == Claimed(days[1], 1)
    assert work.claim(worker("c:1:1"), WORK) is None


def test_a_killed_workers_work_is_taken_over_at_once_and_a_living_ones_is_not(worker, days, store):
    assert work.claim(worker(holders.me()), WORK) == Claimed(days[0], 1)
    assert work.claim(worker(killed()), WORK) == Claimed(days[1], 1)
    assert work.claim(worker("c:1:1"), WORK) == Claimed(days[1], 2)
    assert work.claim(worker("c:1:1"), WORK) is None
    with store.read() as tx:
        reasons = [event.reason for event in rows.find(tx, Event) if event.kind == "block.claim"]
    assert reasons == ["taken up", "taken up", "taken over: its holder is gone or silent"]


def test_a_silent_worker_of_another_machine_keeps_its_work_for_a_lease(worker, days, clock):
    work.claim(worker("a:1:1"), WORK)
    work.claim(worker("a:1:1"), WORK)
    clock.advance(work.LEASE - timedelta(seconds=1))
    assert work.claim(worker("b:1:1"), WORK) is None
    clock.advance(timedelta(seconds=2))
    assert work.claim(worker("b:1:1"), WORK) == Claimed(days[0], 2)


def test_what_is_put_back_waits_and_an_attempt_is_not_counted(worker, days, clock, store):
    claimed = work.claim(worker("a:1:1"), WORK)
    work.requeue(worker("a:1:1"), WORK, claimed, "the disk is away")
    assert work.claim(worker("a:1:1"), WORK) == Claimed(days[1], 1)
    assert work.claim(worker("a:1:1"), WORK) is None
    clock.advance(WORK.retry)
    assert work.claim(worker("b:1:1"), WORK) == Claimed(days[0], 2)
    with store.read() as tx:
        assert [row.attempts for row in tx.execute(tables.blocks.select().order_by(tables.blocks.c.day))] == [1, 1]


def test_who_was_taken_over_cannot_finish_nor_put_back(worker, days, clock):
    slow = work.claim(worker("a:1:1"), WORK)
    clock.advance(work.LEASE * 2)
    assert work.claim(worker("b:1:1"), WORK) == Claimed(days[0], 2)
    with pytest.raises(Conflict, match="taken over by somebody else"):
        work.requeue(worker("a:1:1"), WORK, slow, "too late")


@pytest.mark.usefixtures("days")
def test_a_lease_is_renewed_while_the_work_goes_on_and_its_loss_is_told(worker, clock, store, monkeypatch):
    monkeypatch.setattr(work, "RENEW_SECONDS", 0.01)
    claimed, lost = work.claim(worker("a:1:1"), WORK), threading.Event()
    box = tables.blocks
    with work.renewed(worker("a:1:1"), WORK, claimed, lost.set):
        clock.advance(timedelta(seconds=20))
        renewed = clock.wall() + work.LEASE
        for _ in range(1000):
            with store.read() as tx:
                if tx.execute(box.select().where(box.c.id == claimed.id)).one().leased_until == renewed:
                    break
        else:
            pytest.fail("not renewed")
        with store.begin() as tx:
            moves.claim(
                tx,
                box,
                BLOCKS,
                BlockEvent.claim,
                project="p",
                waiting=BlockState.due,
                busy=BlockState.evaluating,
                owner="b:1:1",
                lease=work.LEASE,
                dead=("a:1:1",),
            )
        assert lost.wait(30)
