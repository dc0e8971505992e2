"""Incidents over HTTP: which are there, and that somebody is looking."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from trueline.web.api.calls import Call, bounded, view, views
from trueline.web.api.services import Services


class AcknowledgeRequest(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = "seen"


class IncidentView(msgspec.Struct, kw_only=True):
    id: str
    state: str
    version: int
    reason: str
    advice: str
    opened_at: datetime
    closed_at: datetime | None = None
    closed_reason: str | None = None
    kind: str = "performance"  # or "upstream": an input is broken; or "journal": predictions go unrecorded
    cause: dict[str, Any] | None = None  # ranked suspects with their shares of the loss


class IncidentList(msgspec.Struct):
    items: list[IncidentView]
    next: str | None = None


def listing(services: Services, call: Call) -> IncidentList:
    limit = bounded(call.query.limit)
    items = views(services.incidents(limit=limit, after=call.query.after), IncidentView)
    return IncidentList(items, items[-1].id if len(items) == limit else None)


def show(services: Services, call: Call) -> IncidentView:
    return view(services.incident(call.path["id"]), IncidentView)


def acknowledge(services: Services, call: Call) -> IncidentView:
    reason = call.body.reason.strip() or "seen"
    return view(services.acknowledge(call.path["id"], reason=reason, actor=call.actor), IncidentView)
