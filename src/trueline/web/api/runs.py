"""Runs over HTTP: start a training, watch it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from trueline.web.api.calls import Call, bounded, said, view, views
from trueline.web.api.services import Services


class RunRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to train; what is left out comes from the project file."""

    fit: str | None = None
    params: dict[str, Any] = {}
    source: str | None = None
    reason: str = "asked for"
    release: bool = True


class RunView(msgspec.Struct, kw_only=True):
    id: str
    state: str
    reason: str
    actor: str
    purpose: str
    entry: str
    params: dict[str, Any]
    source: str | None = None
    release: bool
    cut_at: datetime
    window_from: datetime
    dataset: int | None = None
    key: str | None = None
    cached_from: str | None = None
    tree: str | None = None
    version: int | None = None
    metrics: dict[str, float] | None = None
    error: str | None = None
    created_at: datetime
    finished_at: datetime | None = None


class RunList(msgspec.Struct):
    items: list[RunView]
    next: str | None = None


def start(services: Services, call: Call) -> RunView:
    asked: RunRequest = call.body
    run = services.start_run(
        fit=asked.fit,
        params=asked.params,
        source=asked.source,
        release=asked.release,
        reason=asked.reason.strip() or "asked for",
        actor=call.actor,
    )
    return view(run, RunView)


def resume(services: Services, call: Call) -> RunView:
    return view(services.resume(call.path["id"], reason=said(call.body.reason), actor=call.actor), RunView)


def show(services: Services, call: Call) -> RunView:
    return view(services.run(call.path["id"]), RunView)


def listing(services: Services, call: Call) -> RunList:
    limit = bounded(call.query.limit)
    items = views(services.runs(limit=limit, after=call.query.after), RunView)
    return RunList(items, items[-1].id if len(items) == limit else None)
