"""The count of what servers could not record, whoever looks when and whatever is silent or dies meanwhile."""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import insert, select

from trueline.clock import SystemClock
from trueline.domain.routes import Arm, Route, RouteTable, encode
from trueline.monitoring import unrecorded
from trueline.monitoring.unrecorded import LIVES, Recording, Watch
from trueline.settings import StateFolder
from trueline.store import tables
from trueline.store.engine import open_store

SERVERS, WATCHES = st.sampled_from(["r0", "r1"]), st.sampled_from([0, 1])
PROJECTS = itertools.count()
TABLE = encode(RouteTable(1, "p", (Route(1, Arm.champion, 1.0, "model", "sha256:0"),)))


class World:
    """A database and a state folder for all projects; the servers of the machine, and the time on its clock."""

    def __init__(self, root: Path) -> None:
        self.state = StateFolder(root).create()
        self.store = open_store(root / "control.db", SystemClock())
        self.servers: dict[str, Recording | None] = {}
        self.now = 0.0
        for name in ("r0", "r1"):
            self.state.journal(name).mkdir(parents=True)
            self.state.socket(f"serve-{name}").touch()

    def ask(self, folder: StateFolder, name: str) -> Recording | None:
        assert folder is self.state
        return self.servers[name.removeprefix("serve-")]


class Counting(RuleBasedStateMachine):
    """Each story is a project of its own."""

    world: ClassVar[World]

    @initialize()
    def begin(self):
        self.project = f"p{next(PROJECTS)}"
        with self.world.store.begin() as tx:
            routes = {"epoch": 1, "routes": TABLE, "acknowledged": 1, "champion": 1, "champion_since": tx.now}
            tx.execute(insert(tables.endpoints), {"project": self.project, **routes})
        self.lives = Counter()
        self.standing: dict[str, Recording] = {}
        self.told: Counter[str] = Counter()  # by life: the highest count that anybody has taken in
        for name in ("r0", "r1"):
            self.restart(name)
        self.watches = [Watch(self.world.state), Watch(self.world.state)]

    def put(self, server, **changes):
        self.standing[server] = replace(self.standing[server], **changes)
        if self.world.servers[server] is not None:
            self.world.servers[server] = self.standing[server]

    @rule(server=SERVERS, count=st.integers(1, 5))
    def lose(self, server, count):
        self.put(server, unrecorded=self.standing[server].unrecorded + count)

    @rule(server=SERVERS, problem=st.sampled_from([None, "the disk is full"]))
    def trouble(self, server, problem):
        self.put(server, problem=problem)

    @precondition(lambda self: max(self.lives.values()) < LIVES)
    @rule(server=SERVERS)
    def restart(self, server):
        self.lives[server] += 1
        self.world.servers[server] = self.standing[server] = Recording(server, f"{server}-{self.lives[server]}", 0)

    @rule(server=SERVERS, seconds=st.sampled_from([1.0, 40.0]), which=WATCHES)
    def be_silent(self, server, seconds, which):
        """As long as somebody looks who heard it before."""
        self.look(which)
        self.world.servers[server] = None
        self.world.now += seconds
        self.look(which)
        self.heed(which)
        self.world.servers[server] = self.standing[server]

    @rule(which=WATCHES)
    def look(self, which):
        self.watches[which].look()

    @rule(which=WATCHES)
    def heed(self, which):
        """What was seen at the last look, however long ago that is."""
        for one in self.watches[which]._seen:
            self.told[one.life] = max(self.told[one.life], one.unrecorded)
        self.watches[which].heed(self.world.store, self.project)

    @rule(which=WATCHES)
    def round(self, which):
        self.look(which)
        self.heed(which)

    @rule(which=WATCHES)
    def die(self, which):
        self.watches[which] = Watch(self.world.state)

    @invariant()
    def each_is_counted_once(self):
        box = tables.incidents
        with self.world.store.read() as tx:
            causes = tx.execute(select(box.c.cause).where(box.c.project == self.project)).scalars().all()
        assert sum(cause["unrecorded"] for cause in causes) == self.told.total()


@pytest.fixture(scope="module", autouse=True)
def _world():
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        made = World(Path(folder))
        patch.setattr(unrecorded, "_ask", made.ask)
        patch.setattr(unrecorded, "time", SimpleNamespace(monotonic=lambda: made.now))
        Counting.world = made
        yield
        made.store.close()


def test_whatever_is_silent_restarts_or_dies_each_lost_prediction_is_counted_once():
    run_state_machine_as_test(Counting, settings=settings(max_examples=40, stateful_step_count=25))


def test_a_server_that_was_silent_is_the_one_that_it_was():
    """The defect that all this was written for: after half a minute of silence its count began at nothing again."""
    story = Counting()
    story.begin()
    story.lose("r0", 4)
    story.round(0)
    story.be_silent("r0", 40.0, 0)
    story.lose("r0", 2)
    story.round(0)
    story.each_is_counted_once()
    assert story.told.total() == 6
