"""The monitoring controller: makes blocks due, judges each evaluated one once, and asks for gates that are called for.

Judging a block moves three things in one transaction: the performance monitor (may page), the rehearsal (would
retraining help?) and the staleness record. The releases controller takes the same blocks in for itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from trueline.control import blocks, endpoints, gates, incidents
from trueline.control.context import Context
from trueline.control.rounds import Round
from trueline.domain.blocks import Block
from trueline.domain.gates import Gate
from trueline.domain.releases import Release, ReleaseState
from trueline.domain.verdicts import Verdict
from trueline.domain.versions import VersionState
from trueline.monitoring import decide, rehearsal, scenes
from trueline.monitoring.decide import Advice, Change, MonitorPolicy, MonitorState, Reference
from trueline.monitoring.rehearsal import RehearsalPolicy, RehearsalState
from trueline.store import rows, tables
from trueline.store.engine import Tx

DAY = timedelta(days=1)
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


def recall(tx: Tx, project: str) -> Memory:
    kept = blocks.monitor_state(tx, project)
    return msgspec.convert(kept, Memory) if kept else Memory()


def policy_of(context: Context) -> MonitorPolicy:
    declared = context.project.monitor
    return MonitorPolicy(loss=declared.loss, blocks_per_false_alarm=declared.false_alarms / DAY)


def step(context: Context) -> Round:
    """One round: judge what is evaluated, make due what is due, ask for gates."""
    project = context.project.name
    with context.store.read() as tx:
        block = blocks.next_to_judge(tx, project)
        endpoint = endpoints.get(tx, project)
        newest = blocks.newest_day(tx, project)
        first = _first_day(tx, project)
        proposal = _proposal(tx, context)
    if block is not None:
        judge(context, block)
        return Round(busy=True)
    if proposal is not None:
        _ask(context, proposal)
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
    with context.store.begin() as tx:
        while start + after <= now:
            blocks.make_due(tx, context.project.name, start.date().isoformat(), start + after)
            start += DAY
    return Round(busy=True)


def judge(context: Context, block: Block) -> None:
    """Let monitor, rehearsal and staleness take one block in, in its transaction."""
    project = context.project.name
    with context.store.begin() as tx:
        memory = recall(tx, project)
        evidence = block.evidence or {}
        memory = replace(memory, totals=_totals(memory.totals, evidence))
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
    reading = f"; {rehearsal.read(memory.rehearsal).reason}" if memory.rehearsal else ""
    return f"mean loss {served['loss']:.4g} over {served['n']} labelled predictions{reading}"


def _totals(totals: dict[str, int], evidence: dict[str, Any]) -> dict[str, int]:
    coverage = evidence.get("coverage", {})
    counts = {**coverage, "labels": coverage.get("labelled", 0)}
    return {name: totals.get(name, 0) + int(counts.get(name, 0)) for name in {*totals, *counts}}


def _rehearse(tx: Tx, project: str, memory: Memory, block: Block) -> Memory:
    """Bet on this block's pairs, every model in it fixed before it began."""
    scene = scenes.of_block(tx, project, block)
    if scene is None:
        return memory
    policy = RehearsalPolicy()
    state = memory.rehearsal or RehearsalState.begin(policy)
    return replace(memory, rehearsal=rehearsal.update(state, scene, policy))


def _watch(tx: Tx, context: Context, memory: Memory, block: Block) -> Memory:
    """The performance monitor: opens or closes an incident when its evidence says so."""
    project = context.project.name
    evidence = block.evidence or {}
    loss = float(evidence["served"]["loss"])
    promised = memory.promised or _promise(tx, project)
    if promised is None:
        first = (*memory.first_blocks, loss)
        done = decide.reference(first) if len(first) >= FIRST_BLOCKS else None
        return replace(memory, first_blocks=first, promised=done)
    champion = scenes.champion_at(tx, project, scenes.began(block)) or _champion(tx, project)
    decision = decide.observe(memory.monitor, champion, loss, promised, policy_of(context))
    reading = rehearsal.read(memory.rehearsal) if memory.rehearsal else None
    if decision.verdict is Change.opens:
        advice, why = decide.advise(reading) if reading else (Advice.wait, "no refit was rehearsed yet")
        incidents.raise_one(
            tx,
            project,
            version=champion,
            reason=f"{decision.reason}; {why}{_drifted(evidence)}",
            advice=str(advice),
            detail={"reference": promised.mean, "upper": promised.upper, "loss": loss, "day": block.day},
        )
    elif decision.verdict is Change.closes and (opened := incidents.open_one(tx, project)):
        incidents.close(tx, opened, reason=decision.reason)
    return replace(memory, monitor=decision.state, promised=promised)


def _champion(tx: Tx, project: str) -> int:
    """On the day of the very first release: nothing served when it began."""
    return endpoints.get(tx, project).champion or 0


def _drifted(evidence: dict[str, Any]) -> str:
    """The features that moved beyond noise, for the sentence of an incident."""
    moved = [
        (one["psi"], name) for name, one in evidence.get("drift", {}).items() if one["psi"] > max(one["noise"], 0.1)
    ]
    if not moved:
        return "; no input has drifted beyond noise"
    return "; inputs that drifted: " + ", ".join(
        f"{name} (PSI {psi:.2f})" for psi, name in sorted(moved, reverse=True)[:3]
    )


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


@dataclass(frozen=True)
class Proposal:
    version: int
    vouched_by: dict[str, Any]  # the process that vouches for it, as it stood
    reason: str


def _proposal(tx: Tx, context: Context) -> Proposal | None:
    """The freshest refit, when retraining is shown to pay or the champion to be stale, and no gate knows it yet."""
    project = context.project.name
    memory = recall(tx, project)
    if memory.rehearsal is None:
        return None
    reading = rehearsal.read(memory.rehearsal)
    if not (reading.pays or reading.champion_stale):
        return None
    newest = next(iter(endpoints.shadows(tx, project)), None)
    if newest is None or newest.state is not VersionState.candidate:
        return None
    box = tables.gates
    known = rows.first(tx, Gate, box.c.project == project, box.c.version == newest.number, newest=True)
    undecided = known is not None and known.verdict == Verdict.inconclusive and tx.now >= known.created_at + DAY
    if (known is not None and not undecided) or endpoints.get(tx, project).table.hold:
        return None
    if not _cooled(tx, context):
        return None
    process, wealth = ("freshness", reading.freshness) if reading.pays else ("champion", reading.champion)
    return Proposal(newest.number, {"process": process, "wealth": wealth}, reading.reason)


def _cooled(tx: Tx, context: Context) -> bool:
    release = rows.first(tx, Release, tables.releases.c.project == context.project.name, newest=True)
    return release is None or tx.now >= release.created_at + context.project.retrain.cooldown


def _ask(context: Context, proposal: Proposal) -> None:
    with context.store.begin() as tx:
        gates.request(
            tx,
            context.project.name,
            proposal.version,
            vouched_by=proposal.vouched_by,
            actor="rehearsal",
            reason=f"refit version {proposal.version} goes to its gate: {proposal.reason}",
        )
