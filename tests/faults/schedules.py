"""Schedules of two or three machines on one database: who works at what, until when, and what befalls them.

A schedule is a list of numbers. Each is a move: a machine takes up some work that there is, and goes on to its end, or
is left standing at one of its transaction or side-effect boundaries (its view of the world growing old), or dies
there; a person gives a command; a machine's clock jumps; a server dies or starts. A machine that stands is taken
further by its next move. Between two boundaries nothing else happens, as the database's write lock sees to; in a world
on PostgreSQL machines stand inside their transactions too, each in its own session.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import fault_invariants
from fault_scenes import scenes as moments
from fault_scenes import settle
from fault_world import DAY, HOUR, MINUTE, Crash, Process, Snapshot, World, effects
from greenlet import getcurrent, greenlet
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from trueline.errors import TruelineError

MOVES = 9
"""The most of one schedule; it begins where something is under way already."""
SETTLED = 40
"""Of so many schedules one is followed to its end: everything at rest, nothing waiting."""
JUMPS = (-HOUR, DAY, timedelta(0))
PASSES = (MINUTE, 3 * MINUTE, HOUR, DAY)
DUE = """
select exists(select 1 from outbox where not done and kind = 'route'),
       exists(select 1 from releases where state in ('pending', 'shadow', 'canary', 'promoted')),
       exists(select 1 from blocks where state = 'evaluated') or exists(select 1 from releases),
       exists(select 1 from blocks where state = 'judged'),
       exists(select 1 from endpoints),
       exists(select 1 from blocks where state in ('due', 'evaluating')),
       exists(select 1 from gates where state != 'decided'),
       exists(select 1 from runs where state in ('queued', 'running')),
       exists(select 1 from outbox where not done and kind = 'tracking')
"""
LOCKED = ("rename", "renamed")  # who stands there holds the routes file's lock: others would wait for it
TURN = "turn"  # who stands there waits for another's transaction to end
KINDS = ("deliver", "release", "monitor", "schedule", "reconcile", "block", "gate", "train", "feed")


@dataclass
class Machine:
    process: Process
    job: greenlet | None = None


class Schedule:
    """One schedule being played."""

    def __init__(self, world: World, scene: Snapshot, machines: int) -> None:
        world.hook = None
        world.restore(scene)
        self.world = world
        self.machines = [Machine(Process(world)) for _ in range(machines)]
        self.said: list[str] = []
        world.hook = self._boundary

    def play(self, moves: Sequence[int]) -> None:
        self.world.fine = sum(moves) % 2 == 1
        try:
            for move in moves:
                self._move(move)
        finally:
            for machine in self.machines:
                self._kill(machine)
            self.world.hook = None
        fault_invariants.check(self.world)

    def settle(self) -> None:
        """Fresh machines with right clocks bring everything to rest."""
        acknowledged = self.world.acknowledged
        for name, server in self.world.servers.items():
            if not server.up:
                self.world.restart(name)
        settle(self.world, Process(self.world))
        self.world.acknowledged = acknowledged
        fault_invariants.check(self.world)
        fault_invariants.settled(self.world)

    def _move(self, move: int) -> None:
        move, which = divmod(move, len(self.machines))
        rest, what = divmod(move, 8)
        machine = self.machines[which]
        if what < 5:
            self._work(machine, *divmod(rest, 6))
        elif what == 5:
            self._start(machine, lambda: self._command(machine, rest), stop=9)
        elif what == 6:
            machine.process.clock.off = JUMPS[rest % 3]
            self.said.append(f"{which}: its clock is off by {machine.process.clock.off}")
        else:
            self._world(rest)

    def _work(self, machine: Machine, which: int, stop: int) -> None:
        """`stop`: after so many boundaries; 0 and 4 to the end, 5 it dies at the next one."""
        if machine.job is None:
            due = [name for name, there in zip(KINDS, self.world.raw.execute(DUE).fetchone(), strict=True) if there]
            if not due:
                return
            name = due[which % len(due)]
            self.said.append(f"{machine.process.context.actor} begins to {name}")
            self._start(machine, lambda: machine.process.do(name), stop=stop)
        elif stop == 5:
            self._kill(machine)
        else:
            self._go_on(machine, stop)

    def _start(self, machine: Machine, job: Callable[[], Any], *, stop: int) -> None:
        if machine.job is not None:
            return
        machine.job = greenlet(job)
        self._go_on(machine, 1 if stop == 5 else stop)
        if stop == 5:
            self._kill(machine)

    def _go_on(self, machine: Machine, stop: int) -> None:
        """To the end, or over `stop` boundaries."""
        job = machine.job
        steps = stop * (3 if self.world.fine else 1) if 0 < stop < 4 else 999
        while steps and job is not None:
            steps -= 1
            at = job.switch()
            if job.dead:
                machine.job = None
                return
            self.said.append(f"{machine.process.context.actor} stands at {at}")
            if at == TURN:
                return

    def _kill(self, machine: Machine) -> None:
        """The machine's processes are gone, wherever they stood; others are started."""
        if machine.job is not None:
            self.said.append(f"{machine.process.context.actor} dies")
            with self.world.dying(), suppress(Crash):
                machine.job.throw(Crash)
            if not machine.job.dead:
                raise AssertionError("a dead process went on")
        machine.job = None
        if machine is not self.machines[-1]:  # its death is seen; the last one is on another machine
            self.world.alive.discard(machine.process.context.actor)
        machine.process = Process(self.world, machine.process.clock.off)

    def _boundary(self, name: str) -> None:
        here = getcurrent()
        if here.parent is not None and name not in LOCKED:
            here.parent.switch(name)

    def _world(self, rest: int) -> None:
        rest, what = divmod(rest, 4)
        names = sorted(self.world.servers)
        if what == 0:
            self.world.time += PASSES[rest % len(PASSES)]
            self.said.append(f"{PASSES[rest % len(PASSES)]} pass")
        elif what == 1:
            name = names[rest % len(names)]
            self.world.servers[name].up = False
            self.said.append(f"{name} dies")
        elif what == 2:
            name = names[rest % len(names)]
            self.world.restart(name)
            self.said.append(f"{name} starts")
        else:
            self.world.override(1 + rest % 3)
            self.said.append(f"a person sends all to version {1 + rest % 3}")

    def _command(self, machine: Machine, rest: int) -> None:
        """What a person asks for; only what was answered counts as said."""
        services = machine.process.services
        rest, what = divmod(rest, 5)
        told = self.world.acknowledged.append
        newest = self.world.raw.execute("select coalesce(max(number), 0) from releases").fetchone()[0]
        version = 1 + rest % 4
        try:
            if what == 0:
                run = services.start_run(fit=None, params={}, source=None, release=True, reason="asked", actor="ada")
                told(("run.create", run.id))
            elif what == 1:
                release = services.start_release(version, reason="asked", actor="ada")
                told(("release.create", release.id))
            elif what == 2:
                done = services.roll_back(version=None, reason="asked", actor="ada")
                told(("release.roll_back", str(done.release)))
            elif what == 3:
                promoted = services.promote(f"release-{newest}", reason="asked", actor="ada")
                told(("release.promote", promoted.id))
            else:
                waived = services.waive(version, reason="asked", actor="ada")
                told(("version.waive", f"p/v{waived.number}"))
        except TruelineError:
            return
        self.said.append(f"a person's command {what} was answered")


def explain(schedule: Schedule) -> str:
    return "\n".join([*schedule.said, *(str(tuple(row)) for row in log(schedule.world))])


def log(world: World) -> list[Any]:
    return world.raw.execute("select id, kind, ref, actor, reason from events order by id").fetchall()


def explore(world: World, scenes: dict[str, Snapshot], *, count: int, seeded: int) -> Played:
    """Play `count` schedules that Hypothesis draws; the shortest that breaks a rule is raised, with what happened in it."""
    played = Played()
    names = list(scenes)

    @seed(seeded)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(
        st.integers(0, len(names) - 1), st.integers(2, 3), st.lists(st.integers(0, 2**14), min_size=1, max_size=MOVES)
    )
    def play(scene: int, machines: int, moves: list[int]) -> None:
        schedule = Schedule(world, scenes[names[scene]], machines)
        played.schedules += 1
        played.moves += len(moves)
        try:
            schedule.play(moves)
            if sum(moves) % SETTLED == 0:
                played.settled += 1
                schedule.settle()
        except BaseException:
            world.hook = None
            note(f"seed {seeded}, from: {names[scene]}\n{explain(schedule)}")
            raise

    play()
    return played


@dataclass
class Played:
    schedules: int = 0
    moves: int = 0
    settled: int = 0  # schedules after which everything was brought to rest


def main(folder: str, count: str, seeded: str) -> None:
    """One part of the schedules, in a process of its own."""
    world = World(Path(folder))
    with effects(world):
        played = explore(world, moments(world), count=int(count), seeded=int(seeded))
    print(json.dumps(asdict(played)))  # noqa: T201  for who started it


if __name__ == "__main__":
    main(*sys.argv[1:])
