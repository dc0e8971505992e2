"""Incidents of one judged block: opens, advises and closes them, each with its ranked suspects.

Two kinds. *Performance*: the day's loss against the promise. *Upstream*: an input broken in a slice, which is shown quicker and
names what to mend. When a fault explains a performance incident that was opened since it began, that one is closed in
its favour: one cause, one incident. While a fault is open its rows are left out of the losses, so performance goes on
being judged by what is not broken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import msgspec

from trueline.control import endpoints, incidents, runs
from trueline.control.context import Context
from trueline.domain.blocks import Block
from trueline.domain.incidents import Incident, IncidentKind
from trueline.domain.releases import Release, ReleaseState
from trueline.domain.runs import Run
from trueline.monitoring import causes, decide, faults, rehearsal, scenes
from trueline.monitoring.causes import Lineage
from trueline.monitoring.decide import Advice, Change, MonitorDecision, MonitorPolicy, MonitorState, Reference
from trueline.monitoring.earlier import EarlierPolicy, EarlierState
from trueline.monitoring.earlier import read as read_earlier
from trueline.monitoring.faults import FaultPolicy
from trueline.monitoring.rehearsal import RehearsalReading, RehearsalState
from trueline.monitoring.repair import Suspect
from trueline.store import rows, tables
from trueline.store.engine import Tx

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Known:
    """What is known beside the block: what was promised, and what the standing bets say."""

    promised: Reference | None
    rehearsal: RehearsalState | None = None
    earlier: EarlierState = field(default_factory=EarlierState)


def policy_of(context: Context) -> MonitorPolicy:
    """The total's half of the declared budget of false alarms; the slices' is the other half."""
    declared = context.project.monitor
    return MonitorPolicy(loss=declared.loss, blocks_per_false_alarm=2 * (declared.false_alarms / DAY))


def watch_inputs(tx: Tx, project: str, monitor: MonitorState, block: Block, known: Known) -> MonitorState:
    """Open the incident of a fault that is shown, or close it when its end is."""
    fault = incidents.open_fault(tx, project)
    evidence = block.evidence or {}
    if fault is not None:
        found = evidence.get("recovery")
        if found and found["over"]:
            healthy = date.fromisoformat(block.day) - (found["days"] - 1) * DAY
            ended = {**(fault.cause or {}), "until": healthy.isoformat(), "input_back": found["input_back"]}
            incidents.keep_cause(tx, fault, ended)
            incidents.close(tx, fault, reason=f"the upstream fault is over: {found['reason']}")
        return monitor
    suspects = [msgspec.convert(one, Suspect) for one in evidence.get("suspects", ())]
    suspect = faults.find(suspects, FaultPolicy())
    if suspect is None:
        return monitor
    since = next(one["since"] for one in evidence["suspects"] if msgspec.convert(one, Suspect) == suspect)
    _open_fault(tx, project, block, known, suspect, since)
    return MonitorState(version=monitor.version)  # what its days said against the model was about the input


def _open_fault(tx: Tx, project: str, block: Block, known: Known, suspect: Suspect, since: str) -> None:
    advice, why = decide.advise(faults.sentence(suspect, since), None, None)
    promised = known.promised.mean if known.promised else 0.0
    cause = {**faults.cause_of(suspect, since), "suspects": _ranked(tx, project, block, promised)}
    opened = incidents.raise_one(
        tx,
        project,
        kind=IncidentKind.upstream,
        version=_champion(tx, project, block),
        reason=why,
        advice=str(advice),
        cause=cause,
        detail={"feature": suspect.feature, "slice": suspect.slice, "since": since, "day": block.day},
    )
    held = f"until {opened.id} is over no model is refitted and none gets more traffic by itself: it would learn from a broken input"
    detail = {"feature": suspect.feature, "slice": suspect.slice}
    tx.record("incident.hold", opened.id, project=project, actor="monitor", reason=held, detail=detail)
    other = incidents.open_one(tx, project)
    if other is not None and other.opened_at.date().isoformat() >= since:
        incidents.close(tx, other, reason=f"its cause is known: {opened.id}, {why}")


def watch_loss(tx: Tx, context: Context, monitor: MonitorState, block: Block, known: Known) -> MonitorState:
    """The promise: open an incident when it is shown to be broken, keep its advice current, close it when kept again."""
    project, promised = context.project.name, known.promised
    if promised is None:
        return monitor
    loss = float((block.evidence or {})["served"]["loss"])
    champion = _champion(tx, project, block)
    decision = decide.observe(monitor, champion, loss, promised, policy_of(context))
    opened = incidents.open_one(tx, project)
    if decision.verdict is Change.opens:
        _open_loss(tx, project, block, known, decision)
    elif opened is not None and decision.verdict is Change.closes:
        incidents.close(tx, opened, reason=decision.reason)
    elif opened is not None:
        _advise_again(tx, project, block, known, opened)
    return decision.state


def _open_loss(tx: Tx, project: str, block: Block, known: Known, decision: MonitorDecision) -> None:
    promised = known.promised or Reference(0.0, 0.0, 0)
    champion = _champion(tx, project, block)
    advice, why = _advice(tx, project, known)
    suspects = _ranked(tx, project, block, promised.mean)
    evidence = block.evidence or {}
    detail = {"reference": promised.mean, "upper": promised.upper, "loss": evidence["served"]["loss"], "day": block.day}
    incidents.raise_one(
        tx,
        project,
        version=champion,
        reason=f"{decision.reason}; {why}; {causes.first(suspects)}{_drifted(evidence)}",
        advice=str(advice),
        cause={"suspects": suspects},
        detail=detail,
    )


def _advise_again(tx: Tx, project: str, block: Block, known: Known, opened: Incident) -> None:
    advice, why = _advice(tx, project, known)
    promised = known.promised.mean if known.promised else 0.0
    suspects = _ranked(tx, project, block, promised)
    incidents.advise(tx, opened, advice=str(advice), reason=why, cause={"suspects": suspects})


def _advice(tx: Tx, project: str, known: Known) -> tuple[Advice, str]:
    reading: RehearsalReading | None = rehearsal.read(known.rehearsal) if known.rehearsal else None
    fault = incidents.open_fault(tx, project)
    earlier = read_earlier(known.earlier, endpoints.get(tx, project).champion, EarlierPolicy())
    return decide.advise(fault.reason if fault else None, earlier, reading)


def _ranked(tx: Tx, project: str, block: Block, promised: float) -> list[dict[str, Any]]:
    champion = _lineage(tx, project, _champion(tx, project, block))
    if champion is None:
        return []
    before = _lineage(tx, project, champion.replaced) if champion.replaced else None
    return causes.ranked(block.evidence or {}, scenes.of_block(tx, project, block), promised, champion, before)


def _lineage(tx: Tx, project: str, version: int) -> Lineage | None:
    if not version:
        return None
    run = rows.get(tx, Run, runs.version(tx, project, version).run)
    box = tables.releases
    states = (ReleaseState.promoted, ReleaseState.done)
    brought = (box.c.project == project, box.c.version == version, box.c.state.in_(states))
    release = rows.first(tx, Release, *brought, newest=True)
    replaced = release.previous if release is not None else None
    return Lineage(version, run.id, run.tree, run.dataset, replaced, release.id if release is not None else None)


def _champion(tx: Tx, project: str, block: Block) -> int:
    """Who served when the block began; on the day of the very first release, who does now."""
    return scenes.champion_at(tx, project, scenes.began(block)) or endpoints.get(tx, project).champion or 0


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
