"""Model versions over HTTP: look at one, list them, let one pass that its gate stopped."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from trueline.web.api.calls import Call, bounded, said, view, views
from trueline.web.api.services import Services


class VersionView(msgspec.Struct, kw_only=True):
    number: int
    state: str
    purpose: str
    run: str
    digest: str
    executor: str
    task: str
    parity: dict[str, Any]
    metrics: dict[str, float]
    trained_from: datetime
    trained_to: datetime
    created_at: datetime
    waiting: str | None = None  # whose approvals its release waits for


class VersionList(msgspec.Struct):
    items: list[VersionView]
    next: int | None = None


def show(services: Services, call: Call) -> VersionView:
    return view(services.version(call.path["number"]), VersionView)


def listing(services: Services, call: Call) -> VersionList:
    limit = bounded(call.query.limit)
    items = views(services.versions(limit=limit, after=call.query.after), VersionView)
    return VersionList(items, items[-1].number if len(items) == limit else None)


def waive(services: Services, call: Call) -> VersionView:
    version = services.waive(call.path["number"], reason=said(call.body.reason), actor=call.actor)
    return view(version, VersionView)


def approve(services: Services, call: Call) -> VersionView:
    version = services.approve(call.path["number"], reason=said(call.body.reason), actor=call.actor)
    return view(version, VersionView)
