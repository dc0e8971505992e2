"""The whole project on one page: what serves, what moves, what is wrong."""

from __future__ import annotations

from datetime import datetime

import msgspec

from trueline.web.api.calls import Call, view
from trueline.web.api.incidents import IncidentView
from trueline.web.api.releases import ReleaseView
from trueline.web.api.services import Services
from trueline.web.api.staleness import ProcessView


class RouteView(msgspec.Struct, kw_only=True):
    """A version's part in answering requests."""

    version: int
    arm: str
    weight: float


class TrackingView(msgspec.Struct, kw_only=True):
    """What the tracking store was not told yet."""

    waiting: int = 0
    error: str | None = None  # why not, where it was tried


class RecordingView(msgspec.Struct, kw_only=True):
    """A model server that has answered predictions without recording them, or cannot bring them to the tables."""

    replica: str
    unrecorded: int = 0  # since its start
    problem: str | None = None  # why it cannot record now
    shipping: str | None = None  # why what it recorded does not reach the tables


class StatusView(msgspec.Struct, kw_only=True):
    project: str
    sentence: str  # the state of things in one line
    now: datetime
    idle: bool
    target: str | None = None  # the environment this is
    replaying: bool = False
    champion: int | None = None
    champion_since: datetime | None = None
    epoch: int = 0
    acknowledged: int = 0  # the newest epoch that every serving process has confirmed
    hold: bool = False  # a person rolled back on the server itself
    routes: list[RouteView] = []
    release: ReleaseView | None = None
    queued_runs: int = 0
    running_runs: int = 0
    open_gates: int = 0
    incidents: list[IncidentView] = []
    freshness: ProcessView | None = None
    dataset: int | None = None
    predictions: int | None = None
    labels: int | None = None
    unknown_labels: int | None = None  # of the last judged days: their predictions are not known here
    last_event: int = 0
    tracking: TrackingView | None = None
    undelivered: str | None = None  # why the routes are not on every server yet, where it was tried
    recording: list[RecordingView] = []


def show(services: Services, call: Call) -> StatusView:  # noqa: ARG001 every handler has the same form
    return view(services.status(), StatusView)
