"""Steps of a run over HTTP: where each stands, what it printed, why it ran or did not."""

from __future__ import annotations

from datetime import datetime

import msgspec

from trueline.web.api.calls import Call, view, views
from trueline.web.api.services import Services


class StepView(msgspec.Struct, kw_only=True):
    id: str
    run: str
    name: str
    number: int
    state: str
    entry: str
    needs: list[str]
    retries: int
    timeout: float | None = None
    key: str | None = None
    cached_from: str | None = None
    failures: int = 0
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    not_before: datetime | None = None


class StepList(msgspec.Struct):
    """All of a run's steps, in the pipeline's order; none for a run that is one function."""

    items: list[StepView]


class LogsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Of one step, or of the whole run; `after` is the `next` of the answer before."""

    step: str | None = None
    after: str | None = None


class LogChunk(msgspec.Struct):
    """Whole lines; without a step, what is no step's: a whole fit, or the packaging after the steps."""

    step: str | None
    text: str


class LogsView(msgspec.Struct):
    items: list[LogChunk]
    next: str
    ended: bool  # nothing more will come


class WhyCachedView(msgspec.Struct, kw_only=True):
    """A key held against the nearest earlier one."""

    id: str
    cached: bool
    nearest: str | None = None
    sentence: str
    steps: list[WhyCachedView] = []


def listing(services: Services, call: Call) -> StepList:
    return StepList(views(services.steps(call.path["id"]), StepView))


def logs(services: Services, call: Call) -> LogsView:
    return view(services.logs(call.path["id"], step=call.query.step, after=call.query.after), LogsView)


def why_cached(services: Services, call: Call) -> WhyCachedView:
    return view(services.why_cached(call.path["id"]), WhyCachedView)
