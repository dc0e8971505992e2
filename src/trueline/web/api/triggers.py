"""Triggers over HTTP: start what a schedule or an alert would start."""

from __future__ import annotations

from typing import Literal

import msgspec

from trueline.web.api.calls import Call, said, view
from trueline.web.api.runs import RunView
from trueline.web.api.services import Services


class TriggerRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["manual", "rehearsal"]
    reason: str


def pull(services: Services, call: Call) -> RunView:
    asked: TriggerRequest = call.body
    return view(services.trigger(asked.kind, reason=said(asked.reason), actor=call.actor), RunView)
