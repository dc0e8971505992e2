"""Releases over HTTP: start one, promote it early, take it back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from trueline.web.api.calls import Call, bounded, said, view, views
from trueline.web.api.gates import OfVersion
from trueline.web.api.services import Services


class ReleaseRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    version: int
    reason: str


class RollbackRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Without a version: back to the champion that the live release set out to replace."""

    reason: str
    version: int | None = None


class ReleaseView(msgspec.Struct, kw_only=True):
    id: str
    state: str
    version: int
    previous: int | None = None
    step: int
    vouched: bool
    evidence: dict[str, Any]
    reason: str
    actor: str
    created_at: datetime
    stage_since: datetime
    finished_at: datetime | None = None
    requests_answered: int
    rollback_ms: float | None = None
    needs: str | None = None  # told of one release that is under way: what its next move waits for


class ReleaseList(msgspec.Struct):
    items: list[ReleaseView]
    next: str | None = None


class RollbackView(msgspec.Struct, kw_only=True):
    """What serves after a rollback."""

    version: int
    epoch: int
    reason: str
    release: str | None = None
    rollback_ms: float | None = None


def start(services: Services, call: Call) -> ReleaseView:
    asked: ReleaseRequest = call.body
    return view(services.start_release(asked.version, reason=said(asked.reason), actor=call.actor), ReleaseView)


def show(services: Services, call: Call) -> ReleaseView:
    release = view(services.release(call.path["id"]), ReleaseView)
    release.needs = services.needs(release.id)
    return release


def listing(services: Services, call: Call) -> ReleaseList:
    asked: OfVersion = call.query
    limit = bounded(asked.limit)
    items = views(services.releases(version=asked.version, limit=limit, after=asked.after), ReleaseView)
    return ReleaseList(items, items[-1].id if len(items) == limit else None)


def promote(services: Services, call: Call) -> ReleaseView:
    return view(services.promote(call.path["id"], reason=said(call.body.reason), actor=call.actor), ReleaseView)


def roll_back(services: Services, call: Call) -> RollbackView:
    asked: RollbackRequest = call.body
    done = services.roll_back(version=asked.version, reason=said(asked.reason), actor=call.actor)
    return view(done, RollbackView)
