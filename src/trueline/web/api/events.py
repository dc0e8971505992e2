"""The event log over HTTP: what happened, to what, who did it, and why."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from trueline.web.api.calls import Call, bounded, views
from trueline.web.api.services import Services


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True):
    after: int = 0
    limit: int = 200
    kind: str | None = None


class EventView(msgspec.Struct, kw_only=True):
    id: int
    at: datetime
    wall_at: datetime
    kind: str
    ref: str
    actor: str
    reason: str
    detail: dict[str, Any]


class EventList(msgspec.Struct):
    """`next` is always there: the log goes on, and a follower asks again behind it."""

    items: list[EventView]
    next: int


def listing(services: Services, call: Call) -> EventList:
    asked: EventsQuery = call.query
    found = services.events(after=asked.after, limit=bounded(asked.limit), kind=asked.kind)
    items = views(found, EventView)
    return EventList(items, items[-1].id if items else asked.after)
