"""Event time over HTTP: the driver of a replay posts the next moment and hears back when nothing is left to do."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from trueline.errors import InvalidInput, NotAllowed
from trueline.web.api.calls import Call
from trueline.web.api.services import Services


class ReplayRequest(msgspec.Struct, forbid_unknown_fields=True):
    now: datetime


class ReplayView(msgspec.Struct):
    now: datetime
    replaying: bool
    next_due: datetime | None = None  # nothing is to be done before, as far as control knows


def show(services: Services, call: Call) -> ReplayView:  # noqa: ARG001 every handler has the same form
    return ReplayView(services.now(), services.replaying, services.next_due())


def advance(services: Services, call: Call) -> ReplayView:
    """Answers when the control plane is idle at the new time."""
    if not services.replaying:
        raise NotAllowed(
            "this server lives in real time: its clock is not posted; start it with `trueline up --replay` to replay"
        )
    asked: ReplayRequest = call.body
    if asked.now.tzinfo is None:
        raise InvalidInput(f"now must carry its offset from UTC, such as {asked.now.isoformat()}Z")
    services.replay(asked.now.astimezone(UTC))
    return ReplayView(services.now(), replaying=True, next_due=services.next_due())
