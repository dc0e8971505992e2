"""What must hold of the database and the world whatever was killed, and when: each rule one function that says what broke.

They read with plain SQL, beside the code they watch over.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from fault_world import World

from trueline.domain.blocks import BLOCKS
from trueline.domain.gates import GATES
from trueline.domain.incidents import INCIDENTS
from trueline.domain.machines import Machine
from trueline.domain.releases import RELEASES
from trueline.domain.runs import RUNS
from trueline.domain.versions import VERSIONS
from trueline.errors import Conflict

MACHINES: dict[str, tuple[Machine[Any, Any], str]] = {
    "run": (RUNS, "runs"),
    "version": (VERSIONS, "versions"),
    "gate": (GATES, "gates"),
    "release": (RELEASES, "releases"),
    "block": (BLOCKS, "blocks"),
    "incident": (INCIDENTS, "incidents"),
}
LEASED = ("run", "gate", "block")
UNTOLD = ("block", "incident")  # which begin without a `create` event


def check(world: World) -> None:
    """Raises AssertionError with the first rule that is broken."""
    log = world.raw.execute("select id, kind, ref, actor from events order by id").fetchall()
    for problem in (
        *paths(world, log),
        *epochs(world, log),
        *numbers(world),
        *commands(world, log),
        *judged(world),
        *led(world),
    ):
        raise AssertionError(problem)


def paths(world: World, log: list[Any]) -> Iterator[str]:
    """Every state is what its events lead to; each event is a legal move; a lease's work is ended by who holds it."""
    walk = Walk()
    for _, kind, ref, actor in log:
        noun, _, what = kind.partition(".")
        if noun in MACHINES:
            yield from walk.step(noun, what, ref, actor)
    for noun, (machine, table) in MACHINES.items():
        fence = ", fence" if noun in LEASED else ", 0"
        for ref, state, fenced in world.raw.execute(f"select id, state{fence} from {table}"):  # noqa: S608 our own words
            reached = walk.states.pop((noun, ref), machine.initial if noun in UNTOLD else None)
            if reached != state:
                yield f"{ref} is {state}, its events lead to {reached}: an event was lost or doubled"
            if noun in LEASED and walk.claims[noun, ref] != fenced:
                yield f"{ref} has fence {fenced} after {walk.claims[noun, ref]} claims"
    yield from (f"{ref} has events and no row" for noun, ref in walk.states if noun not in UNTOLD)


@dataclass
class Walk:
    """Where the events lead."""

    states: dict[tuple[str, str], str] = field(default_factory=dict)
    holders: dict[tuple[str, str], str] = field(default_factory=dict)
    claims: Counter[tuple[str, str]] = field(default_factory=Counter)

    def step(self, noun: str, what: str, ref: str, actor: str) -> Iterator[str]:
        machine, thing = MACHINES[noun][0], (noun, ref)
        if what == "create":
            if thing in self.states:
                yield f"{ref} was created twice"
            self.states[thing] = machine.initial
        elif what in {event for row in machine.table.values() for event in row}:
            try:
                self.states[thing] = machine.next(self.states.get(thing, machine.initial), what, which=ref)
            except Conflict as illegal:
                yield f"an illegal path: {illegal}"
            yield from self._held(thing, what, actor)

    def _held(self, thing: tuple[str, str], what: str, actor: str) -> Iterator[str]:
        if thing[0] in LEASED and what == "claim":
            self.claims[thing] += 1
            self.holders[thing] = actor
        elif thing[0] in LEASED and what != "judge" and self.holders.get(thing) != actor:
            yield f"{what} of {thing[1]} by {actor}, while {self.holders.get(thing)} holds its lease"


def epochs(world: World, log: list[Any]) -> Iterator[str]:
    """Each change of routes is a new epoch, and an acknowledged epoch is in force everywhere."""
    told = [int(ref.removeprefix("epoch-")) for _, kind, ref, _ in log if kind in ("route.set", "route.hold")]
    if any(later <= earlier for earlier, later in pairwise(told)):
        yield f"epochs do not grow: {told}"
    row = world.raw.execute("select epoch, acknowledged, routes from endpoints").fetchone()
    if row is None:
        return
    epoch, acknowledged, routes = row
    if told and epoch != told[-1]:
        yield f"the endpoint is at epoch {epoch}, its events at {told[-1]}"
    if json.loads(routes)["epoch"] != epoch:
        yield f"the endpoint's row says epoch {epoch}, its table {json.loads(routes)['epoch']}"
    if acknowledged > epoch:
        yield f"epoch {acknowledged} is acknowledged, and {epoch} is the newest"
    for name, server in world.servers.items():
        if server.up and (server.table.epoch if server.table else 0) < acknowledged:
            yield f"epoch {acknowledged} is acknowledged, and {name} does not have it"


def numbers(world: World) -> Iterator[str]:
    """Numbers are given without gaps, and each only once."""
    for noun, table in (("run", "runs"), ("gate", "gates"), ("release", "releases"), ("version", "versions")):
        found = [number for (number,) in world.raw.execute(f"select number from {table} order by number")]  # noqa: S608
        if found != list(range(1, len(found) + 1)):
            yield f"numbers of {noun}s have a gap or a double: {found}"
        last = world.raw.execute("select coalesce(sum(last), 0) from counters where noun = ?", (noun,)).fetchone()[0]
        if last != len(found):
            yield f"{last} {noun}s were counted and {len(found)} are there"


def commands(world: World, log: list[Any]) -> Iterator[str]:
    """What a caller was told is done stands in the log, once."""
    there = Counter((kind, ref) for _, kind, ref, _ in log)
    for told in world.acknowledged:
        if there[told] != 1:
            yield f"{told[0]} of {told[1]} was acknowledged and is in the log {there[told]} times"


def judged(world: World) -> Iterator[str]:
    """Every judged block was taken in once, and no record of a journal twice."""
    counted: defaultdict[str, int] = defaultdict(int)
    for (evidence,) in world.raw.execute("select evidence from blocks where state = 'judged'"):
        for name, value in json.loads(evidence)["coverage"].items():
            counted[name] += value
    row = world.raw.execute("select state from monitors").fetchone()
    totals = json.loads(row[0]).get("totals", {}) if row else {}
    if totals.get("predictions", 0) != counted["predictions"] or totals.get("labels", 0) != counted["labelled"]:
        yield f"the monitor has taken in {totals}, its judged blocks hold {dict(counted)}"
    for ref, evidence, answered in world.raw.execute("select id, evidence, requests_answered from releases"):
        kept = json.loads(evidence).get("kept")
        if kept and (kept["answered"] != answered or kept["guard"]["alone"] != answered):
            yield f"{ref} has counted {kept['guard']['alone']} requests, answered {kept['answered']} and {answered}"


def led(world: World) -> Iterator[str]:
    """Writes of controllers come from one leader after another: none from one that was replaced."""
    if any(later < earlier for earlier, later in pairwise(world.fences)):
        yield f"a leader wrote after it was replaced: {world.fences}"


def settled(world: World) -> None:
    """After everybody had his turns nothing waits any more, and every server answers as the endpoint says."""
    for table, states in (
        ("runs", "'queued', 'running'"),
        ("gates", "'pending', 'evaluating'"),
        ("blocks", "'due', 'evaluating', 'evaluated'"),
    ):
        waiting = world.raw.execute(f"select id, state from {table} where state in ({states})").fetchall()  # noqa: S608
        assert not waiting, f"still waiting: {waiting}"
    undelivered = world.raw.execute("select key, error from outbox where not done").fetchall()
    assert not undelivered, f"intents were left: {undelivered}"
    row = world.raw.execute("select epoch, acknowledged, routes from endpoints").fetchone()
    if row is not None:
        assert row[0] == row[1], f"epoch {row[0]} stands, {row[1]} is acknowledged"
        for name, server in world.servers.items():
            assert not server.up or row[0] == 0 or server.table.epoch == row[0], f"{name} is at {server.table}"
    for name, times in world.tracker.told.items():
        assert times >= 1, name
