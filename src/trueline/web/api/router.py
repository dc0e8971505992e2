"""One table of routes, and the one place where a request is let in.

`dispatch` is plain Python: the HTTP server and the in-process client call the same function. Nothing is reachable that
is not in `ROUTES`; no route is without a permission; a request without a valid token learns nothing, not even which
paths exist. What handlers raise from `trueline.errors` becomes a problem with its sentence; anything else is a defect,
is logged with its traceback, and leaves as a 500 that tells no internals.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from trueline.errors import InvalidInput, NotAllowed, NotFound, TruelineError, UnsupportedMedia
from trueline.security.tokens import Guard, Principal
from trueline.web.api import (
    datasets,
    events,
    gates,
    health,
    incidents,
    openapi,
    performance,
    problems,
    releases,
    replay,
    runs,
    staleness,
    status,
    steps,
    triggers,
    versions,
    why,
)
from trueline.web.api.calls import (
    EVENT_STREAM,
    ApiRequest,
    ApiResponse,
    Call,
    Following,
    Listing,
    NumberedListing,
    Permission,
    Reason,
    Route,
)
from trueline.web.api.services import Services

log = logging.getLogger("trueline.api")

NOBODY = Principal("anyone", frozenset())
_DIGITS = 9


def describe(services: Services, call: Call) -> openapi.Document:  # noqa: ARG001 every handler has the same form
    return openapi.document(ROUTES)


_ANYONE, _READ, _TRAIN, _RELEASE = Permission.anyone, Permission.read, Permission.train, Permission.release
_OF_VERSION = gates.OfVersion

ROUTES: tuple[Route, ...] = (
    Route("GET", "/livez", _ANYONE, health.live, health.Health, "The process is alive", prefix=""),
    Route("GET", "/readyz", _ANYONE, health.ready, health.Health, "Work can be taken", prefix=""),
    Route("GET", "/openapi.json", _ANYONE, describe, openapi.Document, "This description of the API"),
    Route("GET", "/status", _READ, status.show, status.StatusView, "What serves, what moves, what is wrong"),
    Route("POST", "/runs", _TRAIN, runs.start, runs.RunView, "Start a training", request=runs.RunRequest, status=201),
    Route("GET", "/runs", _READ, runs.listing, runs.RunList, "Trainings, newest first", query=Listing),
    Route("GET", "/runs/{id}", _READ, runs.show, runs.RunView, "One training"),
    Route("GET", "/runs/{id}/steps", _READ, steps.listing, steps.StepList, "The steps of a pipeline's run"),
    Route(
        "GET",
        "/runs/{id}/logs",
        _READ,
        steps.logs,
        steps.LogsView,
        "What a run has printed, live while it runs",
        query=steps.LogsQuery,
    ),
    Route(
        "POST",
        "/runs/{id}/resume",
        _TRAIN,
        runs.resume,
        runs.RunView,
        "Have a failed run go on from where it failed",
        request=Reason,
    ),
    Route("GET", "/why-cached/{id}", _READ, steps.why_cached, steps.WhyCachedView, "Why it ran again, or did not"),
    Route("GET", "/versions", _READ, versions.listing, versions.VersionList, "Model versions", query=NumberedListing),
    Route("GET", "/versions/{number:int}", _READ, versions.show, versions.VersionView, "One model version"),
    Route(
        "POST",
        "/versions/{number:int}/waive",
        _RELEASE,
        versions.waive,
        versions.VersionView,
        "Let a version pass that its gate did not",
        request=Reason,
    ),
    Route(
        "POST",
        "/versions/{number:int}/approve",
        _RELEASE,
        versions.approve,
        versions.VersionView,
        "Agree to the release of a version that passed its gate",
        request=Reason,
    ),
    Route("GET", "/gates", _READ, gates.listing, gates.GateList, "Gates, newest first", query=_OF_VERSION),
    Route("GET", "/gates/{id}", _READ, gates.show, gates.GateView, "One gate: verdict and evidence"),
    Route("GET", "/releases", _READ, releases.listing, releases.ReleaseList, "Releases", query=_OF_VERSION),
    Route("GET", "/releases/{id}", _READ, releases.show, releases.ReleaseView, "One release"),
    Route(
        "POST",
        "/releases",
        _RELEASE,
        releases.start,
        releases.ReleaseView,
        "Start releasing an approved version",
        request=releases.ReleaseRequest,
        status=201,
    ),
    Route(
        "POST",
        "/releases/{id}/promote",
        _RELEASE,
        releases.promote,
        releases.ReleaseView,
        "Give the released version all traffic now",
        request=Reason,
    ),
    Route(
        "POST",
        "/rollback",
        _RELEASE,
        releases.roll_back,
        releases.RollbackView,
        "Take the live release back, or serve an earlier version",
        request=releases.RollbackRequest,
    ),
    Route("GET", "/events", _READ, events.listing, events.EventList, "The event log", query=events.EventsQuery),
    Route(
        "GET",
        "/events/stream",
        _READ,
        events.stream,
        events.EventView,
        "The event log as it grows, by server-sent events",
        query=events.StreamQuery,
        media=EVENT_STREAM,
    ),
    Route("GET", "/timeline", _READ, events.timeline, events.Timeline, "The log backwards", query=events.TimelineQuery),
    Route(
        "GET",
        "/performance",
        _READ,
        performance.show,
        performance.PerformanceView,
        "The performance curve: loss by event-time day",
        query=performance.PerformanceQuery,
    ),
    Route("GET", "/why/{id}", _READ, why.show, why.WhyView, "From a prediction back to model, data, code, decision"),
    Route("GET", "/incidents", _READ, incidents.listing, incidents.IncidentList, "Incidents", query=Listing),
    Route("GET", "/incidents/{id}", _READ, incidents.show, incidents.IncidentView, "One incident"),
    Route(
        "POST",
        "/incidents/{id}/acknowledge",
        Permission.respond,
        incidents.acknowledge,
        incidents.IncidentView,
        "Say that somebody is looking",
        request=incidents.AcknowledgeRequest,
    ),
    Route("GET", "/staleness", _READ, staleness.show, staleness.StalenessView, "Loss against model age"),
    Route("GET", "/datasets", _READ, datasets.listing, datasets.DatasetList, "Dataset versions", query=NumberedListing),
    Route(
        "POST",
        "/triggers",
        _TRAIN,
        triggers.pull,
        runs.RunView,
        "Start what a schedule or an alert would start",
        request=triggers.TriggerRequest,
        status=201,
    ),
    Route("GET", "/replay", _READ, replay.show, replay.ReplayView, "The time policies live in"),
    Route(
        "POST",
        "/replay",
        Permission.replay,
        replay.advance,
        replay.ReplayView,
        "Move event time forward; answers when nothing is left to do",
        request=replay.ReplayRequest,
    ),
)


def dispatch(request: ApiRequest, services: Services, guard: Guard) -> ApiResponse:
    """Answer one request. Never raises."""
    try:
        return _answer(request, services, guard)
    except TruelineError as error:
        return problem(error)
    except Exception:
        log.exception("%s %s failed unexpectedly", request.method, request.path)
        return problem(TruelineError("something unexpected happened inside trueline; the server's log says what"))


def problem(error: TruelineError) -> ApiResponse:
    """The answer that tells of an error."""
    told = problems.of(error)
    headers = {401: {"WWW-Authenticate": 'Bearer realm="trueline"'}, 429: {"Retry-After": "1"}}.get(told.status, {})
    return ApiResponse(told.status, msgspec.json.encode(told), problems.MEDIA_TYPE, headers)


def _answer(request: ApiRequest, services: Services, guard: Guard) -> ApiResponse:
    there = [(route, found) for route in ROUTES if (found := pattern(route.template).fullmatch(request.path))]
    wanted = next((pair for pair in there if pair[0].method == request.method), None)
    if wanted is not None and wanted[0].permission is Permission.anyone:
        principal = NOBODY
    else:
        principal = guard.identify(request.authorization, request.session)
    if not there:
        raise NotFound(f"there is nothing at {request.path}; /api/v1/openapi.json lists what there is")
    if wanted is None:
        return _wrong_method(request, [route.method for route, _ in there])
    route, found = wanted
    if route.permission is not Permission.anyone and not principal.may(route.permission):
        raise NotAllowed(f"{principal.name} may not do this: it needs the permission {str(route.permission)!r}")
    path, query, body = _path(found.groupdict(), route), _query(request, route), _body(request, route)
    answer = route.handler(services, Call(principal.name, path, query, body, request.last_event_id))
    if isinstance(answer, Following):
        return ApiResponse(route.status, b"", route.media, follow=answer)
    return ApiResponse(route.status, msgspec.json.encode(answer))


def _wrong_method(request: ApiRequest, allowed: Sequence[str]) -> ApiResponse:
    methods = ", ".join(sorted(allowed))
    told = problems.of(InvalidInput(f"{request.path} answers {methods}, not {request.method}"))
    told.status = 405
    return ApiResponse(405, msgspec.json.encode(told), problems.MEDIA_TYPE, {"Allow": methods})


@cache
def pattern(template: str) -> re.Pattern[str]:
    """The expression of a path template; `{name:int}` is a number, `{name}` anything without a slash."""
    parts = re.split(r"(\{\w+(?::int)?\})", template)
    return re.compile("".join(f"(?P<{p[1:-1].split(':')[0]}>[^/]+)" if p[:1] == "{" else re.escape(p) for p in parts))


def _path(values: dict[str, str], route: Route) -> dict[str, Any]:
    """The path's values, numbers as numbers."""
    typed: dict[str, Any] = dict(values)
    for name in re.findall(r"\{(\w+):int\}", route.path):
        text = values[name]
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
            raise NotFound(f"{text!r} is not a number: a {name} is what {route.template} asks for")
        typed[name] = int(text)
    return typed


def _query(request: ApiRequest, route: Route) -> Any:
    if route.query is None:
        if request.query:
            raise InvalidInput(f"{request.path} takes no parameters, but {', '.join(sorted(request.query))} was given")
        return None
    try:
        return msgspec.convert(dict(request.query), route.query, strict=False)
    except msgspec.ValidationError as wrong:
        raise InvalidInput(f"a parameter of {request.path} is wrong: {wrong}") from wrong


def _body(request: ApiRequest, route: Route) -> Any:
    if route.request is None:
        return None
    kind = (request.content_type or "application/json").split(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMedia(f"{request.path} takes application/json, not {kind}")
    try:
        return msgspec.json.decode(request.body or b"{}", type=route.request)
    except msgspec.ValidationError as wrong:
        raise InvalidInput(f"the body is not what {request.path} takes: {wrong}") from wrong
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise InvalidInput(f"the body is not JSON: {wrong}") from wrong
