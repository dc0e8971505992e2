"""Probes: alive, and ready to take work."""

from __future__ import annotations

import msgspec

from trueline.errors import Unavailable
from trueline.web.api.calls import Call
from trueline.web.api.services import Services


class Health(msgspec.Struct):
    ok: bool


def live(services: Services, call: Call) -> Health:  # noqa: ARG001 every handler has the same form
    return Health(ok=True)


def ready(services: Services, call: Call) -> Health:  # noqa: ARG001 every handler has the same form
    sentence = services.unready()
    if sentence is not None:
        raise Unavailable(sentence)
    return Health(ok=True)
