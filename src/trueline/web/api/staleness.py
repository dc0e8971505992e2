"""The staleness curve over HTTP: how fast this model rots, and whether retraining pays."""

from __future__ import annotations

import msgspec

from trueline.web.api.calls import Call, view
from trueline.web.api.services import Services


class ProcessView(msgspec.Struct, kw_only=True):
    """A betting process of the rehearsal: it shows what it is about while its wealth is at or above the threshold."""

    wealth: float
    threshold: float
    shown: bool
    sentence: str


class AgeView(msgspec.Struct, kw_only=True):
    """Loss at one model age, relative to a fresh model's, with its band."""

    age_days: float
    ratio: float
    low: float
    high: float
    blocks: int


class StalenessView(msgspec.Struct, kw_only=True):
    sentence: str
    ages: list[AgeView]
    freshness: ProcessView | None = None
    champion: ProcessView | None = None


def show(services: Services, call: Call) -> StalenessView:  # noqa: ARG001 every handler has the same form
    return view(services.staleness(), StalenessView)
