"""Gates over HTTP: a verdict with its evidence."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from trueline.web.api.calls import Call, bounded, view, views
from trueline.web.api.services import Services


class GateView(msgspec.Struct, kw_only=True):
    id: str
    state: str
    version: int
    champion: int | None = None
    verdict: str | None = None
    reason: str | None = None
    evidence: dict[str, Any] | None = None
    vouched: bool = False
    waived_by: str | None = None
    waiver: str | None = None
    created_at: datetime
    decided_at: datetime | None = None


class GateList(msgspec.Struct):
    items: list[GateView]
    next: str | None = None


class OfVersion(msgspec.Struct, forbid_unknown_fields=True):
    """A page of what concerns one version, or all."""

    version: int | None = None
    after: str | None = None
    limit: int = 50


def show(services: Services, call: Call) -> GateView:
    return view(services.gate(call.path["id"]), GateView)


def listing(services: Services, call: Call) -> GateList:
    asked: OfVersion = call.query
    limit = bounded(asked.limit)
    items = views(services.gates(version=asked.version, limit=limit, after=asked.after), GateView)
    return GateList(items, items[-1].id if len(items) == limit else None)
