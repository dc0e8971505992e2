"""Gates: asking for one, recording its verdict, and a person's waiver."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from trueline.control import approvals, endpoints, runs
from trueline.domain.gates import GATES, Gate, GateEvent, GateState
from trueline.domain.project import Approve
from trueline.domain.verdicts import Verdict
from trueline.domain.versions import VERSIONS, VersionEvent
from trueline.errors import Conflict
from trueline.store import moves, rows, tables
from trueline.store.engine import Tx

NOBODY = Approve()


def request(
    tx: Tx, project: str, version: int, *, vouched_by: dict[str, Any] | None = None, actor: str, reason: str
) -> Gate:
    """Ask for a judgement of a version against the champion of this moment.

    `vouched_by` is the rehearsal's process that vouches for its merit, with its wealth as it stood when asked.
    """
    number = moves.number(tx, moves.EVERYWHERE, "gate")
    gate_id = f"gate-{number}"
    values = {
        "id": gate_id,
        "number": number,
        "project": project,
        "version": version,
        "champion": endpoints.get(tx, project).champion,
        "vouched": vouched_by is not None,
        "evidence": {"vouched_by": vouched_by} if vouched_by else None,
        "created_at": tx.now,
    }
    moves.create(tx, tables.gates, GATES, values, actor=actor, reason=reason, detail={"version": version})
    return rows.get(tx, Gate, gate_id)


def decide(
    tx: Tx,
    gate: Gate,
    fence: int,
    *,
    verdict: Verdict,
    reason: str,
    evidence: dict[str, Any],
    actor: str,
    approve: Approve = NOBODY,
) -> None:
    """Record a verdict; a pass approves the version and, where its run asked for it, queues its release.

    Where people must agree first, the version stays a candidate until they have.
    """
    moves.move(
        tx,
        tables.gates,
        GATES,
        gate.id,
        GateEvent.decide,
        actor=actor,
        reason=f"{verdict}: {reason}",
        fence=fence,
        detail={"version": gate.version, "verdict": str(verdict)},
        verdict=str(verdict),
        evidence=evidence,
        decided_at=tx.now,
    )
    tx.execute(update(tables.gates).where(tables.gates.c.id == gate.id).values(reason=reason))
    if verdict is Verdict.failed:
        ref = runs.version_id(gate.project, gate.version)
        moves.move(tx, tables.versions, VERSIONS, ref, VersionEvent.reject, actor=actor, reason=reason)
    elif verdict is Verdict.passed:
        lacking = approvals.missing(tx, gate.project, gate.version, approve)
        if lacking is not None:
            approvals.wait(tx, gate.project, gate.version, lacking, actor=actor)
            return
        why = f"its gate passed: {reason}"
        approvals.settle(tx, gate, VersionEvent.approve, vouched=True, actor=actor, reason=why)


def waive(tx: Tx, project: str, version: int, *, actor: str, reason: str, approve: Approve = NOBODY) -> Gate:
    """Let a version pass that its gate did not; kept with who and why, and nothing vouches for its merit.

    Where approvals are asked for, only who may approve may waive, and the waiver is that person's yes.
    """
    box = tables.gates
    gate = rows.first(tx, Gate, box.c.project == project, box.c.version == version, newest=True)
    if gate is None or gate.state is not GateState.decided:
        raise Conflict(f"version {version} has no decided gate to waive; wait for the gate first")
    if gate.verdict == Verdict.passed:
        raise Conflict(f"version {version} passed its gate; there is nothing to waive")
    approvals.check(approve, actor)
    tx.execute(update(box).where(box.c.id == gate.id).values(waived_by=actor, waiver=reason))
    why = f"gate {gate.id} ({gate.verdict}) waived: {reason}"
    tx.record("gate.waive", gate.id, project=project, actor=actor, reason=why, detail={"version": version})
    approvals.count_waiver(tx, project, version, approve, actor=actor, reason=reason)
    lacking = approvals.missing(tx, project, version, approve)
    if lacking is None:
        approvals.settle(tx, gate, VersionEvent.waive, vouched=False, actor=actor, reason=why)
    else:
        approvals.wait(tx, project, version, lacking, actor=actor)
    return rows.get(tx, Gate, gate.id)
