"""The words of the route table: who calls, what is asked, what a route is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from trueline.errors import InvalidInput
from trueline.web.api.services import Services

V = TypeVar("V", bound=msgspec.Struct)

MAX_LIMIT = 1000
EVENT_STREAM = "text/event-stream"


class Permission(StrEnum):
    """What a token must carry. There is no default: a route names one or it does not exist."""

    anyone = "anyone"  # no token needed: probes and the published description of the API
    read = "read"
    train = "train"
    release = "release"
    respond = "respond"  # acknowledge incidents
    replay = "replay"  # turn the clock


@dataclass(frozen=True)
class ApiRequest:
    """One request, whichever transport brought it."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str | None = None
    authorization: str | None = None
    session: str | None = None  # of a browser on a page; reads only
    last_event_id: str | None = None  # where a stream that broke off goes on


@dataclass(frozen=True)
class Following:
    """A stream of events: later than `after` (None: from now on), of one kind or all."""

    after: int | None = None
    kind: str | None = None


@dataclass(frozen=True)
class ApiResponse:
    """An answer; with `follow` its body has no end and is the transport's to send."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    follow: Following | None = None


@dataclass(frozen=True)
class Call:
    """A request that was let in: typed, and with the name of who makes it."""

    actor: str
    path: Mapping[str, Any]
    query: Any = None
    body: Any = None
    last_event_id: str | None = None


@dataclass(frozen=True)
class Route:
    method: str
    path: str  # "/runs/{id}" or "/versions/{number:int}", below the prefix
    permission: Permission
    handler: Callable[[Services, Call], object]
    response: type[msgspec.Struct]
    summary: str
    request: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    status: int = 200
    prefix: str = "/api/v1"
    media: str = "application/json"  # EVENT_STREAM: the handler gives a `Following`, and each event is a `response`

    @property
    def template(self) -> str:
        return self.prefix + self.path


class Reason(msgspec.Struct, forbid_unknown_fields=True):
    """A command's only argument: why."""

    reason: str


class Listing(msgspec.Struct, forbid_unknown_fields=True):
    """How much of a list, and from where: `after` is the `next` of the page before."""

    after: str | None = None
    limit: int = 50


class NumberedListing(msgspec.Struct, forbid_unknown_fields=True):
    after: int | None = None
    limit: int = 50


def view(value: object, kind: type[V]) -> V:
    """The answer's form of a domain value: the attributes (or keys) that `kind` names, nothing else."""
    return msgspec.convert(value, kind, from_attributes=True)


def views(values: Sequence[object], kind: type[V]) -> list[V]:
    return [view(value, kind) for value in values]


def bounded(limit: int) -> int:
    """A page's size, checked."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must be between 1 and {MAX_LIMIT}, not {limit}")
    return limit


def said(reason: str) -> str:
    """A reason that says something: it is kept in the event log for as long as the project lives."""
    if not reason.strip():
        raise InvalidInput("a reason is needed: it is kept with the decision; say why in a few words")
    return reason.strip()
