"""Incidents: at most one of a kind is open per project, so one cause pages once. An open fault holds what learns."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import insert, update

from trueline.domain.incidents import INCIDENTS, Incident, IncidentEvent, IncidentKind, IncidentState
from trueline.store import moves, rows, tables
from trueline.store.engine import Tx


def open_one(tx: Tx, project: str, kind: IncidentKind = IncidentKind.performance) -> Incident | None:
    box = tables.incidents
    return rows.first(tx, Incident, box.c.project == project, box.c.kind == kind, box.c.state != IncidentState.closed)


def open_fault(tx: Tx, project: str) -> Incident | None:
    """The upstream fault that is open: while it is, no model is refitted and none gets more traffic by itself."""
    return open_one(tx, project, IncidentKind.upstream)


def faults(tx: Tx, project: str) -> list[Incident]:
    """Every upstream fault there was, oldest first; each with its slice and its days in `cause`."""
    box = tables.incidents
    return rows.find(tx, Incident, box.c.project == project, box.c.kind == IncidentKind.upstream)


def tainted_by(
    tx: Tx, project: str, trained_from: datetime, trained_to: datetime, made_at: datetime
) -> Incident | None:
    """The fault whose rows a version was trained on: made before it was known, from days on which it was there."""
    for fault in faults(tx, project):
        cause = fault.cause or {}
        since, until = cause.get("since", ""), cause.get("until") or "9999"
        learned = since < trained_to.date().isoformat() and trained_from.date().isoformat() < until
        if learned and made_at < fault.opened_at:
            return fault
    return None


def raise_one(
    tx: Tx,
    project: str,
    *,
    version: int,
    reason: str,
    advice: str,
    detail: dict[str, Any],
    kind: IncidentKind = IncidentKind.performance,
    cause: dict[str, Any] | None = None,
) -> Incident:
    incident_id = f"incident-{moves.number(tx, moves.EVERYWHERE, 'incident')}"
    values = {
        "id": incident_id,
        "project": project,
        "kind": kind,
        "version": version,
        "reason": reason,
        "advice": advice,
        "cause": cause,
        "opened_at": tx.now,
    }
    tx.execute(insert(tables.incidents), {**values, "state": INCIDENTS.initial})
    told = {**detail, "version": version, "advice": advice, "kind": str(kind)}
    tx.record("incident.open", incident_id, project=project, actor="monitor", reason=reason, detail=told)
    return rows.get(tx, Incident, incident_id)


def advise(tx: Tx, incident: Incident, *, advice: str, reason: str, cause: dict[str, Any] | None) -> None:
    """Tell what is known better by now; silent while the advice stays what it was."""
    box = tables.incidents
    tx.execute(update(box).where(box.c.id == incident.id).values(advice=advice, cause=cause))
    if advice != incident.advice:
        detail = {"version": incident.version, "advice": advice, "was": incident.advice}
        tx.record(
            "incident.advise", incident.id, project=incident.project, actor="monitor", reason=reason, detail=detail
        )


def restate(tx: Tx, incident: Incident, *, reason: str, cause: dict[str, Any]) -> None:
    """Keep what an incident says current; it was told when it opened, and is not told again."""
    box = tables.incidents
    tx.execute(update(box).where(box.c.id == incident.id).values(reason=reason, cause=cause))


def keep_cause(tx: Tx, incident: Incident, cause: dict[str, Any]) -> None:
    box = tables.incidents
    tx.execute(update(box).where(box.c.id == incident.id).values(cause=cause))


def close(tx: Tx, incident: Incident, *, reason: str) -> None:
    moves.move(
        tx,
        tables.incidents,
        INCIDENTS,
        incident.id,
        IncidentEvent.close,
        actor="monitor",
        reason=reason,
        closed_at=tx.now,
        closed_reason=reason,
    )


def acknowledge(tx: Tx, incident_id: str, *, actor: str, reason: str) -> Incident:
    moves.move(tx, tables.incidents, INCIDENTS, incident_id, IncidentEvent.acknowledge, actor=actor, reason=reason)
    return rows.get(tx, Incident, incident_id)
