"""Moments of a project's life to start from: each frozen once, thawed in twenty microseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fault_world import DAY, MINUTE, Process, Snapshot, World

from trueline.clock import to_us
from trueline.journal.records import PredictionRecord
from trueline.journal.segments import Writer

ROUND = ("deliver", "release", "monitor", "schedule", "deliver", "reconcile", "block", "gate", "train", "feed")
LONGEST = 400


def settle(
    world: World, process: Process, work: Iterable[str] = ROUND, *, before: Callable[[str], None] | None = None
) -> None:
    """Everybody has his turns until nobody has anything to do; leases and pauses of the dead run out meanwhile."""
    work = tuple(work)
    quiet = 0
    for _ in range(LONGEST):
        busy = False
        for name in work:
            if before is not None:
                before(name)
            busy |= process.do(name)
        quiet = 0 if busy else quiet + 1
        if not busy and (quiet > 1 or not waiting(world)):
            return
        if not busy:
            world.time += 3 * MINUTE
    raise AssertionError(f"nothing settles: {waiting(world)}")


def waiting(world: World) -> list[object]:
    """What a living process would come back for."""
    return world.raw.execute(
        "select id from runs where state in ('queued', 'running') union all "
        "select id from gates where state != 'decided' union all "
        "select id from blocks where state != 'judged' union all select key from outbox where not done"
    ).fetchall()


def journal(world: World, name: str, *, bad: int, rows: int = 60) -> None:
    """What a server has written of release-2: half of the requests to each version, `bad` of every ten canary's failed."""
    records = []
    for number in range(rows):
        canary = number % 2 == 1
        failed = canary and number // 2 % 10 < bad
        records.append(
            PredictionRecord(
                request_id=f"r0-{number}",
                event_us=to_us(world.time) + number,
                received_us=to_us(world.time) + number,
                model="p",
                epoch=2,
                release="release-2",
                version=2 if canary else 1,
                arm="canary" if canary else "champion",
                weight=0.5,
                unit=f"u{number}",
                outcome="failed" if failed else "answered",
                answered_by=None if failed else (2 if canary else 1),
                queue_us=1,
                exec_us=1,
                rows=1,
                features={"x": [1.0]},
                outputs=None if failed else [1.0],
                error="it failed" if failed else None,
            )
        )
    with Writer(world.journals(name) / "r0") as writer:
        writer.append(records)


def scenes(world: World) -> dict[str, Snapshot]:
    """Play the story through, and keep its moments."""
    journal(world, "good", bad=0)
    journal(world, "bad", bad=9)
    story = Story(world, Process(world))
    story.to_the_second_version()
    story.through_the_days()
    return story.kept


@dataclass
class Story:
    world: World
    process: Process
    kept: dict[str, Snapshot] = field(default_factory=dict)

    def keep(self, name: str) -> None:
        self.kept[name] = self.world.snapshot()

    def run(self) -> None:
        self.process.services.start_run(fit=None, params={}, source=None, release=True, reason="asked", actor="ada")

    def settle(self) -> None:
        settle(self.world, self.process)

    def to_the_second_version(self) -> None:
        world, process = self.world, self.process
        self.keep("nothing is there")
        self.run()
        self.keep("the first run is queued")
        self.settle()
        self.keep("the first version serves")
        self.run()
        process.do("train")
        self.keep("a gate is asked for")
        process.do("gate")
        self.keep("a release waits")
        process.do("release")
        self.keep("a canary begins")
        self.settle()
        canary = world.snapshot()
        world.use_journal("bad")
        self.keep("a canary fails")
        self.settle()
        self.keep("it was rolled back")
        self._back_to(canary)
        world.use_journal("good")
        self.keep("a canary does well")
        process.do("release")
        self.keep("it is promoted")
        self.settle()
        self.keep("it is watched")

    def through_the_days(self) -> None:
        world, process = self.world, self.process
        world.time += 3 * DAY
        process.do("monitor")
        self.keep("blocks are due")
        while process.do("block"):
            pass
        self.keep("blocks are to be judged")
        self.run()
        self.keep("a run waits among blocks")
        self.settle()
        self.keep("a version was rejected")
        world.override(1)
        self.keep("a person holds the endpoint")
        self.settle()
        self.keep("a hold is known")
        self._back_to(self.kept["a version was rejected"])
        process.services.waive(3, reason="it must do", actor="bob")
        self.keep("a version was waived")
        self.settle()
        world.time += 8 * DAY
        self.keep("a week has passed")
        judged = "select count(*) from blocks where state = 'judged'"
        while world.raw.execute(judged).fetchone()[0] < 8:
            process.do("monitor")
            process.do("block")
        self.keep("a bad day is next")
        self.settle()
        self.keep("an incident is open")

    def _back_to(self, moment: Snapshot) -> None:
        self.world.restore(moment)
        self.world.alive.add(self.process.context.actor)
