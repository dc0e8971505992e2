"""Every instant at which a workflow can be killed, each tried: once, and a second time in the recovery.

A story is a moment, perhaps a person's command, and then the rounds until nothing is left to do. It is played once
without a crash; what every round did is kept as the world before it and the number of its boundaries (each
transaction's begin, each statement in it, before and after its commit; before and after each effect). Then each round
is played again from the world before it, and killed at each of its boundaries in turn. Fresh processes finish what was
left: every rule must hold, and the world must end as it ends without a crash.

A world that is byte for byte one that was finished before ends as that one did; it is not finished again.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import fault_invariants
from fault_scenes import settle
from fault_world import Crash, Process, Snapshot, World
from sqlalchemy import select

from trueline.store import tables
from trueline.store.tables import Moment

Command = Callable[[Process], object]
PASSING = {"owner", "fence", "attempts", "rollback_ms", "error"}  # differ after a crash, and may


@dataclass(frozen=True)
class Story:
    scene: str
    command: Command | None = None
    done: str = "select 1"  # says whether the command has come to be
    doubles: int = 60  # second crashes, about: the grid is as fine as that allows


@dataclass(frozen=True)
class Played:
    """One round of a story, as it went without a crash."""

    work: str
    before: Snapshot
    held: list[tuple[int | None, float]]
    points: int


@dataclass
class Counts:
    single: int = 0
    double: int = 0
    worlds: int = 0  # different ones that a crash left, each finished
    absorbed: int = 0  # endings in which an effect was told again, and changed nothing


@dataclass
class Points:
    """Counts boundaries, and is the crash at one of them."""

    crash_at: int = 0
    count: int = 0

    def __call__(self, name: str) -> None:
        self.count += 1
        if self.count == self.crash_at:
            raise Crash(name)


@dataclass
class Enumeration:
    world: World
    story: Story
    scene: Snapshot
    counts: Counts
    finished: dict[object, list[Played]] = field(default_factory=dict)
    ending: Any = None
    told: int = 0

    def run(self) -> None:
        """Every single crash, and in the recovery of each world that they leave second ones, on a grid."""
        self.world.restore(self.scene)
        first = self._play("machine-a")
        self.ending = ending(self.world)
        self.told = sum(self.world.tracker.told.values())
        left: dict[object, Snapshot] = {}
        for world, points in self._crashes(first, "machine-a", 1):
            self.counts.single += points
            left[world.key] = world
        for world in left.values():
            self._finish(world, "machine-b")
        recoveries = list(self.finished.values())
        every = max(1, sum(one.points for recovery in recoveries for one in recovery) // self.story.doubles)
        for offset, recovery in enumerate(recoveries):
            for world, points in self._crashes(recovery, "machine-b", every, offset):
                self.counts.double += points
                if world.key not in self.finished:
                    self._finish(world, "machine-c")

    def _play(self, name: str) -> list[Played]:
        """Play on from here to the end without a crash; what each round was."""
        played: list[Played] = []
        points = Points()
        open_round: list[Any] = []

        def before(work: str) -> None:
            if open_round and points.count:
                played.append(Played(*open_round, points.count))
            points.count = 0
            open_round[:] = [work, self.world.snapshot(), process.held()]

        self.world.alive.clear()
        process = Process(self.world, name=name)
        self.world.hook = points
        if self.story.command is not None and not self._commanded():
            before("command")
            self._command(process)
        settle(self.world, process, before=before)
        before("end")
        self.world.hook = None
        return played

    def _commanded(self) -> bool:
        return self.world.raw.execute(self.story.done).fetchone() is not None

    def _command(self, process: Process) -> None:
        assert self.story.command is not None
        self.story.command(process)

    def _crashes(self, played: list[Played], name: str, every: int, offset: int = 0) -> Any:
        """The worlds that crashes leave, and how many crashes left each in a row."""
        at = offset
        for one in played:
            for point in range(1, one.points + 1):
                at += 1
                if at % every:
                    continue
                self.world.restore(one.before)
                process = Process(self.world, name=name)
                process.remember(one.held)
                self.world.hook = Points(crash_at=point)
                try:
                    if one.work == "command":
                        self._command(process)
                    else:
                        process.do(one.work)
                    raise AssertionError(f"{one.work} went another way than before, and not over boundary {point}")
                except Crash:
                    pass
                finally:
                    self.world.hook = None
                if self.world.raw.in_transaction:
                    self.world.raw.rollback()
                yield self.world.snapshot(), 1

    def _finish(self, world: Snapshot, name: str) -> None:
        self.counts.worlds += 1
        self.world.restore(world)
        self.finished[world.key] = self._play(name)
        fault_invariants.check(self.world)
        fault_invariants.settled(self.world)
        self.counts.absorbed += sum(self.world.tracker.told.values()) > self.told
        found = ending(self.world)
        for part, wanted in self.ending.items():
            assert found[part] == wanted, (
                f"{part} ended otherwise than without the crash: {_difference(found[part], wanted)}"
            )


def ending(world: World) -> dict[str, Any]:
    """How the world stands, without what a crash may change: times, leases, and what was tried again."""
    found: dict[str, Any] = {}
    with world.engine.connect() as connection:
        for table in tables.metadata.sorted_tables:
            if table.name in ("events", "leases"):
                continue
            columns = [one for one in table.c if not isinstance(one.type, Moment) and one.name not in PASSING]
            columns = [one for one in columns if not (table.name == "outbox" and one.name == "id")]
            rows = connection.execute(select(*columns)).mappings()
            told = {_plain(dict(row)) for row in rows if "/again/" not in str(row.get("key", ""))}
            found[table.name] = sorted(told)
        log = connection.execute(select(tables.events.c.kind, tables.events.c.ref, tables.events.c.reason))
        found["events"] = Counter(
            (row.kind, row.ref, row.reason) for row in log if not row.kind.endswith((".claim", ".requeue", ".takeover"))
        )
        connection.rollback()
    found["servers"] = {name: server.table for name, server in world.servers.items()}
    found["aliases"] = world.tracker.aliases
    found["told"] = {what for what in world.tracker.told if not what.startswith("alias")}  # only the last counts
    found["routes"] = world.folder.routes.read_text() if world.folder.routes.exists() else None
    return found


def _plain(row: dict[str, Any]) -> str:
    evidence = row.get("evidence")
    if isinstance(evidence, dict):
        row["evidence"] = {name: value for name, value in evidence.items() if name != "rollback_decided"}
    text = re.sub(r"machine-\w+", "a machine", json.dumps(row, default=str, sort_keys=True))
    return re.sub(r"(tracking/run-\d+)\.\d+", r"\1", text)  # each attempt is told


def _difference(found: Any, wanted: Any) -> str:
    if isinstance(found, list):
        return f"{[one for one in found if one not in wanted]} beside {[one for one in wanted if one not in found]}"
    if isinstance(found, Counter):
        return f"{found - wanted} beside {wanted - found}"
    return f"{found} beside {wanted}"
