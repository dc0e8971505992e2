"""Incidents: at most one is open per project, so one cause pages once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert

from trueline.domain.incidents import INCIDENTS, Incident, IncidentEvent, IncidentState
from trueline.store import moves, rows, tables
from trueline.store.engine import Tx


def open_one(tx: Tx, project: str) -> Incident | None:
    box = tables.incidents
    return rows.first(tx, Incident, box.c.project == project, box.c.state != IncidentState.closed)


def raise_one(tx: Tx, project: str, *, version: int, reason: str, advice: str, detail: dict[str, Any]) -> Incident:
    incident_id = f"incident-{moves.number(tx, moves.EVERYWHERE, 'incident')}"
    values = {
        "id": incident_id,
        "project": project,
        "version": version,
        "reason": reason,
        "advice": advice,
        "opened_at": tx.now,
    }
    tx.execute(insert(tables.incidents), {**values, "state": INCIDENTS.initial})
    told = {**detail, "version": version, "advice": advice}
    tx.record("incident.open", incident_id, project=project, actor="monitor", reason=reason, detail=told)
    return rows.get(tx, Incident, incident_id)


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
