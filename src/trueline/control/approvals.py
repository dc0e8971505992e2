"""Approvals: the people who must agree before a version is released, counted once each.

A gate's pass (or a waiver) says that a version may be released; where the project asks for approvals, it stays a
candidate until enough of the named people have said yes. What it waits for stands in the version itself.
"""

from __future__ import annotations

from sqlalchemy import insert, select, update

from trueline.control import releases, runs
from trueline.domain.gates import Gate, GateState
from trueline.domain.project import Approve
from trueline.domain.runs import Run
from trueline.domain.verdicts import Verdict
from trueline.domain.versions import VERSIONS, VersionEvent, VersionState
from trueline.errors import Conflict, NotAllowed
from trueline.store import moves, rows, tables
from trueline.store.engine import Tx


def give(tx: Tx, project: str, number: int, policy: Approve, *, actor: str, reason: str) -> None:
    """Record one person's yes; the one that completes the count approves the version and queues its release.

    Saying it again changes nothing.

    Raises:
        NotAllowed: the project does not count this person's yes.
        Conflict: no approvals are asked for, or the gate has not let the version pass.
    """
    if not policy.count:
        raise Conflict("this project asks for no approvals; name people under gates.approve.by to ask for them")
    check(policy, actor)
    _hold(tx, project, number)
    version = runs.version(tx, project, number)
    gate = _newest_gate(tx, project, number)
    if gate is None or gate.state is not GateState.decided:
        raise Conflict(f"the gate of version {number} has not decided yet; approve when its evidence is there")
    if gate.verdict != Verdict.passed and gate.waived_by is None:
        raise Conflict(
            f"the gate of version {number} says {gate.verdict}: {gate.reason}; there is nothing to approve, "
            "somebody named under gates.approve.by may waive it"
        )
    if version.state is VersionState.approved:
        raise Conflict(f"version {number} is approved already; start its release with `trueline release {number}`")
    if actor in given(tx, project, number):
        return
    _record(tx, project, number, policy, actor=actor, reason=reason)
    if missing(tx, project, number, policy) is None:
        event = VersionEvent.waive if gate.waived_by is not None else VersionEvent.approve
        settle(tx, gate, event, vouched=gate.waived_by is None, actor=actor, reason=f"approved: {reason}")


def check(policy: Approve, actor: str) -> None:
    """Refuse a person whose yes does not count here."""
    if policy.count and actor not in policy.by:
        raise NotAllowed(
            f"{actor} may not approve here; gates.approve.by names {', '.join(policy.by)} "
            "(a server knows people by their tokens: `trueline token NAME`)"
        )


def given(tx: Tx, project: str, number: int) -> tuple[str, ...]:
    """Who agreed so far, in that order."""
    box = tables.approvals
    mine = select(box.c.actor).where(box.c.project == project, box.c.version == number).order_by(box.c.at, box.c.actor)
    return tuple(tx.execute(mine).scalars())


def missing(tx: Tx, project: str, number: int, policy: Approve) -> str | None:
    """The sentence what a version waits for, or None; people no longer named do not count."""
    said = [actor for actor in given(tx, project, number) if actor in policy.by]
    if len(said) >= policy.count:
        return None
    left = ", ".join(one for one in policy.by if one not in said)
    return f"waits for {policy.count - len(said)} of these to approve: {left}"


def wait(tx: Tx, project: str, number: int, sentence: str, *, actor: str) -> None:
    """Note in the version what its release waits for."""
    _set_waiting(tx, project, number, sentence)
    tx.record("version.wait", runs.version_id(project, number), project=project, actor=actor, reason=sentence)


def settle(tx: Tx, gate: Gate, event: VersionEvent, *, vouched: bool, actor: str, reason: str) -> None:
    """Nothing is missing any more: approve the version and queue the release its run asked for."""
    version = runs.version(tx, gate.project, gate.version)
    ref = runs.version_id(gate.project, gate.version)
    if not (version.state is VersionState.approved and event is VersionEvent.approve):
        moves.move(tx, tables.versions, VERSIONS, ref, event, actor=actor, reason=reason)
    _set_waiting(tx, gate.project, gate.version, None)
    if event is VersionEvent.approve and not rows.get(tx, Run, version.run).release:
        return
    try:
        releases.request(tx, gate.project, gate.version, vouched=vouched, actor=actor, reason=reason)
    except Conflict as known:  # it serves already, or its release waits: the verdict stands all the same
        if event is VersionEvent.waive:
            raise
        tx.record("release.skip", ref, project=gate.project, actor=actor, reason=str(known))


def count_waiver(tx: Tx, project: str, number: int, policy: Approve, *, actor: str, reason: str) -> None:
    """Who waives agrees."""
    if policy.count and actor not in given(tx, project, number):
        _record(tx, project, number, policy, actor=actor, reason=reason)


def _record(tx: Tx, project: str, number: int, policy: Approve, *, actor: str, reason: str) -> None:
    row = {"project": project, "version": number, "actor": actor, "at": tx.now, "reason": reason}
    tx.execute(insert(tables.approvals), row)
    ref = runs.version_id(project, number)
    tx.record("version.approval", ref, project=project, actor=actor, reason=reason, detail={"version": number})
    _set_waiting(tx, project, number, missing(tx, project, number, policy))


def _newest_gate(tx: Tx, project: str, number: int) -> Gate | None:
    box = tables.gates
    return rows.first(tx, Gate, box.c.project == project, box.c.version == number, newest=True)


def _hold(tx: Tx, project: str, number: int) -> None:
    """Two people who approve at once take turns, so that the second sees the first."""
    box = tables.versions
    tx.execute(update(box).where(box.c.project == project, box.c.number == number).values(waiting=box.c.waiting))


def _set_waiting(tx: Tx, project: str, number: int, sentence: str | None) -> None:
    box = tables.versions
    tx.execute(update(box).where(box.c.project == project, box.c.number == number).values(waiting=sentence))
