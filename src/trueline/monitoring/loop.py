"""The monitoring controller: makes blocks due, judges each evaluated one once, and asks for gates that are called for.

Judging a block moves three things in one transaction: the performance monitor (may page), the rehearsal (would
retraining help?) and the staleness record. The releases controller takes the same blocks in for itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from trueline.control import blocks, endpoints, journals
from trueline.control.context import Context
from trueline.control.rounds import Round
from trueline.domain.blocks import Block
from trueline.domain.figures import figure
from trueline.domain.gates import Gate
from trueline.domain.releases import Release, ReleaseState
from trueline.errors import Unavailable
from trueline.monitoring import decide, earlier, paging, proposals, rehearsal, scenes
from trueline.monitoring.decide import MonitorState, Reference
from trueline.monitoring.earlier import EarlierPolicy, EarlierState
from trueline.monitoring.paging import Known
from trueline.monitoring.rehearsal import RehearsalPolicy, RehearsalState
from trueline.store import rows, tables
from trueline.store.engine import Tx

DAY = timedelta(days=1)
SHIP_SECONDS = 5.0
"""Control waits no longer: releases are looked at between two tries."""
FIRST_BLOCKS = 7
"""A champion without held-out blocks is promised what it does in its first week."""


@dataclass(frozen=True)
class Memory:
    """What the monitor knows of a project between blocks: one row, one value."""

    monitor: MonitorState = field(default_factory=MonitorState)
    rehearsal: RehearsalState | None = None
    promised: Reference | None = None
    first_blocks: tuple[float, ...] = ()  # of the first champion, while nothing is promised yet
    totals: dict[str, int] = field(default_factory=dict)
    earlier: EarlierState = field(default_factory=EarlierState)


def recall(tx: Tx, project: str) -> Memory:
    kept = blocks.monitor_state(tx, project)
    return msgspec.convert(kept, Memory) if kept else Memory()


def step(context: Context) -> Round:
    """One round: judge what is evaluated, make due what is due, ask for gates."""
    project = context.project.name
    with context.store.read() as tx:
        block = blocks.next_to_judge(tx, project)
        endpoint = endpoints.get(tx, project)
        newest = blocks.newest_day(tx, project)
        first = _first_day(tx, project)
        memory = recall(tx, project)
        proposal = proposals.propose(tx, context, memory.rehearsal, memory.earlier)
    if block is not None:
        judge(context, block)
        return Round(busy=True)
    if proposal is not None:
        with context.store.begin() as tx:
            if proposals.propose(tx, context, memory.rehearsal, memory.earlier) == proposal:  # nothing came in between
                proposals.ask(tx, project, proposal)
        return Round(busy=True)
    if endpoint.champion is None or first is None:
        return Round(busy=False)
    return _make_due(context, newest, first)


def _first_day(tx: Tx, project: str) -> datetime | None:
    """The day the first champion was released."""
    box = tables.releases
    states = (ReleaseState.promoted, ReleaseState.done, ReleaseState.rolled_back)
    release = rows.first(tx, Release, box.c.project == project, box.c.state.in_(states))
    return None if release is None else _midnight(release.created_at)


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _make_due(context: Context, newest: str | None, first: datetime) -> Round:
    """A day's block is due when the labels of its last prediction are."""
    start = first if newest is None else datetime.fromisoformat(newest).replace(tzinfo=UTC) + DAY
    after = DAY + context.project.monitor.labels.expect_after
    now = context.clock.now()
    if start + after > now:
        return Round(busy=False, next_due=start + after)
    if context.storage.objects is not None and not _shipped(context):
        return Round(busy=False)
    with context.store.begin() as tx:
        while start + after <= now:
            blocks.make_due(tx, context.project.name, start.date().isoformat(), start + after)
            start += DAY
    return Round(busy=True)


def _shipped(context: Context) -> bool:
    """Whether everything served here is in the tables: who evaluates may be on another machine, and cannot ask our
    shippers. False while none runs here.
    """
    try:
        journals.ship(context, seconds=SHIP_SECONDS)
    except Unavailable as problem:
        if isinstance(problem.__cause__, (ConnectionRefusedError, FileNotFoundError)):
            return False
        raise
    return True


def judge(context: Context, block: Block) -> None:
    """Let monitor, rehearsal and staleness take one block in, in its transaction."""
    project = context.project.name
    with context.store.begin() as tx:
        memory = recall(tx, project)
        evidence = block.evidence or {}
        memory = replace(memory, totals=_totals(memory.totals, evidence))
        known = Known(memory.promised or _promise(tx, project))
        memory = replace(memory, monitor=paging.watch_inputs(tx, project, memory.monitor, block, known))
        if evidence.get("served", {}).get("n"):
            if not context.project.monitor.labels.affected_by_prediction:  # shadow pairs would be no evidence
                memory = _rehearse(tx, project, memory, block)
            memory = _watch(tx, context, memory, block)
        blocks.keep_monitor_state(tx, project, msgspec.to_builtins(memory))
        blocks.judge(tx, block, reason=_said(memory, evidence))


def _said(memory: Memory, evidence: dict[str, Any]) -> str:
    served = evidence.get("served", {})
    if not served.get("n"):
        return "no labels came for this day"
    left_out = f", {evidence['quarantined']} left out for a fault" if evidence.get("quarantined") else ""
    reading = f"; {rehearsal.read(memory.rehearsal).reason}" if memory.rehearsal else ""
    return f"mean loss {figure(served['loss'])} over {served['n']} labelled predictions{left_out}{reading}"


def _totals(totals: dict[str, int], evidence: dict[str, Any]) -> dict[str, int]:
    coverage = evidence.get("coverage", {})
    counts = {**coverage, "labels": coverage.get("labelled", 0)}
    sums = {name: totals.get(name, 0) + int(counts.get(name, 0)) for name in {*totals, *counts}}
    return {**sums, "unknown": int(evidence.get("unknown", 0))}  # of the last days, as they are known by now


def _rehearse(tx: Tx, project: str, memory: Memory, block: Block) -> Memory:
    """Bet on this block's pairs, every model in it fixed before it began."""
    scene = scenes.of_block(tx, project, block)
    if scene is None:
        return memory
    policy = RehearsalPolicy()
    state = memory.rehearsal or RehearsalState.begin(policy)
    candidates = scenes.contenders(tx, project, scene.began)
    others = earlier.update(memory.earlier, scene, candidates, state.scale, EarlierPolicy())
    return replace(memory, rehearsal=rehearsal.update(state, scene, policy), earlier=others)


def _watch(tx: Tx, context: Context, memory: Memory, block: Block) -> Memory:
    """The performance monitor; the first champion's first days are its reference where no gate measured one."""
    loss = float((block.evidence or {})["served"]["loss"])
    promised = memory.promised or _promise(tx, context.project.name)
    if promised is None:
        first = (*memory.first_blocks, loss)
        done = decide.reference(first) if len(first) >= FIRST_BLOCKS else None
        return replace(memory, first_blocks=first, promised=done)
    known = Known(promised, memory.rehearsal, memory.earlier)
    monitor = paging.watch_loss(tx, context, memory.monitor, block, known)
    return replace(memory, monitor=monitor, promised=promised)


def _promise(tx: Tx, project: str) -> Reference | None:
    """What the first champion's gate measured on held-out days: the loss that the project was promised."""
    releases = tables.releases
    states = (ReleaseState.promoted, ReleaseState.done, ReleaseState.rolled_back)
    first = rows.first(tx, Release, releases.c.project == project, releases.c.state.in_(states))
    if first is None:
        return None
    box = tables.gates
    gate = rows.first(tx, Gate, box.c.project == project, box.c.version == first.version)
    found = ((gate.evidence or {}) if gate else {}).get("baseline") or ()
    losses = [float(pair["loss"]) for pair in found if pair["rows"]]
    return decide.reference(losses) if len(losses) >= 3 else None
