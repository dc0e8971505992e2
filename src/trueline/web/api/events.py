"""The event log over HTTP: what happened, to what, who did it, and why."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from trueline.errors import InvalidInput
from trueline.web.api.calls import Call, Following, bounded, views
from trueline.web.api.services import Services

MOST_DIGITS = 18  # of an event's id


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


class StreamQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Without `after` a stream begins now; a client that reconnects says so in `Last-Event-ID`, which counts more."""

    after: int | None = None
    kind: str | None = None


def stream(services: Services, call: Call) -> Following:  # noqa: ARG001 every handler has the same form
    """What to follow; the transport follows it, for it knows when its client has gone."""
    asked: StreamQuery = call.query
    told = call.last_event_id
    if told is None or not told:
        return Following(asked.after, asked.kind)
    if not (told.isascii() and told.isdigit() and len(told) <= MOST_DIGITS):
        raise InvalidInput(f"Last-Event-ID must be the id of an event, not {told[:40]!r}")
    return Following(int(told), asked.kind)


class TimelineQuery(msgspec.Struct, forbid_unknown_fields=True):
    """`kinds` are full kinds between commas; `ref` is the id of one thing."""

    before: int | None = None
    limit: int = 50
    kinds: str | None = None
    ref: str | None = None


class Timeline(msgspec.Struct):
    """Newest first; `next` is where older events begin, if there may be any."""

    items: list[EventView]
    next: int | None = None


def timeline(services: Services, call: Call) -> Timeline:
    asked: TimelineQuery = call.query
    limit = bounded(asked.limit)
    kinds = None if asked.kinds is None else tuple(asked.kinds.split(","))
    found = services.timeline(before=asked.before, limit=limit, kinds=kinds, ref=asked.ref)
    items = views(found, EventView)
    return Timeline(items, items[-1].id if len(items) == limit else None)
