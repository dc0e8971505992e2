"""Why: the chain from a prediction (or a run, version, release, gate) back to data, code and decision."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from trueline.web.api.calls import Call, view
from trueline.web.api.services import Services


class LinkView(msgspec.Struct, kw_only=True):
    """One link: what it is, and in one sentence what it has to do with the question."""

    noun: str  # prediction, label, version, run, code, dataset, gate, release
    ref: str
    sentence: str
    at: datetime | None = None
    facts: dict[str, Any] = {}


class WhyView(msgspec.Struct, kw_only=True):
    id: str
    noun: str
    sentence: str
    links: list[LinkView]


def show(services: Services, call: Call) -> WhyView:
    return view(services.why(call.path["id"]), WhyView)
