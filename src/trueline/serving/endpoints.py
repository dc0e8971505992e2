"""The HTTP surface: which path and method means what, who may call it, and how errors become answers."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from trueline.clock import to_us
from trueline.errors import InvalidInput, NotAuthenticated, NotFound, TruelineError, Unavailable, UnsupportedMedia
from trueline.serving import labels, openinference, predict
from trueline.serving.dataplane import Answer, Call, DataPlane
from trueline.serving.protocol import Exchange, Request
from trueline.serving.responses import JSON, PROMETHEUS, encode, problem
from trueline.serving.table import Loaded

Handler = Callable[[Request, Exchange], None]

_JSON_TYPES = frozenset({b"application/json", b"", b"text/json"})
UNRECORDED = (b"trueline-unrecorded", b"the journal cannot be written")
_NO_TOKEN = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"})


@dataclass(frozen=True)
class Policy:
    """What the command line decided."""

    token: str | None  # None: loopback only, nobody is asked
    replay: bool  # requests may say when they happened


class Endpoints:
    def __init__(self, plane: DataPlane, policy: Policy, exposition: Callable[[], str]) -> None:
        self._plane = plane
        self._policy = policy
        self._exposition = exposition
        self._authorization = f"Bearer {policy.token}".encode() if policy.token is not None else None
        self.draining = False
        self._exact: dict[str, Mapping[str, Handler]] = {
            "/predict": {"POST": self._predict},
            "/labels": {"POST": self._labels},
            "/metrics": _get(self._metrics),
            "/livez": _get(partial(self._say, {"live": True})),
            "/readyz": _get(self._ready),
            "/v2": _get(partial(self._say, openinference.server_metadata())),
            "/v2/health/live": _get(partial(self._say, {"live": True})),
            "/v2/health/ready": _get(self._ready),
            "/v2/models": _get(self._models),
        }

    def handle(self, request: Request, exchange: Exchange) -> None:
        try:
            if self._authorization is not None and request.path not in _NO_TOKEN:
                self._check_token(request)
            methods = self._exact.get(request.path)
            if methods is None:
                methods = self._model_methods(request.path)
            handler = methods.get(request.method)
            if handler is None:
                allowed = ", ".join(sorted(methods))
                sentence = f"{request.path} takes {allowed}, not {request.method}"
                exchange.answer(405, problem(sentence), JSON, ((b"allow", allowed.encode()),))
                return
            handler(request, exchange)
        except TruelineError as error:
            if request.method == "POST" and request.path != "/labels":
                self.count(error.status)
            exchange.refuse(error)

    def count(self, status: int) -> None:
        """A request that was refused before it was any version's."""
        self._plane.metrics.requests[self._plane.versions.standing.table.model, "", "", status] += 1

    # -- inference

    def _predict(self, request: Request, exchange: Exchange) -> None:
        _expect_json(request)
        call = predict.decode(request.body)
        self._submit(call, request, exchange, predict.encode)

    def _infer(self, request: Request, exchange: Exchange, *, model: str, version: int | None) -> None:
        _expect_json(request)
        signature = self._find(model, version).runner.signature
        call = openinference.decode(request.body, signature)
        call.model, call.version = model, version
        self._submit(call, request, exchange, partial(openinference.encode, output=signature.output))

    def _submit(self, call: Call, request: Request, exchange: Exchange, form: Callable[[Answer], bytes]) -> None:
        headers = request.headers
        named = headers.get(b"x-request-id")
        if named is not None and call.client_id is None:
            call.client_id = named.decode("latin-1")[:256]
        call.event_us = self._event_time(request)

        def reply(answer: Answer | TruelineError) -> None:
            if isinstance(answer, TruelineError):
                exchange.refuse(answer)
                return
            mine = (b"trueline-request-id", answer.request_id.encode()) if answer.recorded else UNRECORDED
            echoed = (mine,) if named is None else (mine, (b"x-request-id", named))
            exchange.answer(200, form(answer), JSON, echoed)

        self._plane.submit(call, reply)

    def _labels(self, request: Request, exchange: Exchange) -> None:
        _expect_json(request)
        exchange.answer(200, labels.accept(request.body, self._plane, self._event_time(request)))

    def _event_time(self, request: Request) -> int | None:
        """When it happened, if this server replays and the caller says so; anywhere else the header means nothing."""
        stamp = request.headers.get(b"x-trueline-event-time") if self._policy.replay else None
        if stamp is None:
            return None
        try:
            moment = datetime.fromisoformat(stamp.decode("ascii"))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise InvalidInput("X-Trueline-Event-Time: expected an RFC 3339 time with its zone, 2013-07-01T12:00:00Z")
        return to_us(moment)

    # -- health and metadata

    def _ready(self, request: Request, exchange: Exchange) -> None:
        if self.draining:
            raise Unavailable("the server is shutting down")
        if not self._plane.versions.standing.ready:
            raise Unavailable("no version of the model is released yet; release one")
        self._say({"ready": True}, request, exchange)

    def _models(self, request: Request, exchange: Exchange) -> None:
        table = self._plane.versions.standing.table
        self._say({"models": [table.model] if table.routes else []}, request, exchange)

    def _metrics(self, request: Request, exchange: Exchange) -> None:
        del request
        exchange.answer(200, self._exposition().encode(), PROMETHEUS)

    def _metadata(self, request: Request, exchange: Exchange, *, model: str, version: int | None) -> None:
        runner = self._find(model, version).runner
        versions = sorted(one.version for one in self._plane.versions.loaded)
        shown = openinference.model_metadata(model, versions, runner.kind, runner.signature)
        self._say(shown, request, exchange)

    def _model_ready(self, request: Request, exchange: Exchange, *, model: str, version: int | None) -> None:
        self._find(model, version)
        self._say({"name": model, "ready": True}, request, exchange)

    def _find(self, model: str, version: int | None) -> Loaded:
        """A named version, or the one that stands for the model: its champion."""
        versions = self._plane.versions
        table = versions.standing.table
        if model != table.model:
            raise NotFound(f"no model '{model}' is served here; this server has '{table.model}'")
        if version is not None:
            return versions.pinned(version)
        if versions.standing.champion is None:
            raise Unavailable(f"no version of '{model}' is released yet; release one and try again")
        return versions.standing.champion

    def _model_methods(self, path: str) -> Mapping[str, Handler]:
        """/v2/models/{model}[/versions/{version}][/ready|/infer]"""
        parts = path.split("/")[3:] if path.startswith("/v2/models/") else []
        if not parts or not parts[0]:
            raise NotFound(f"there is nothing at {path}")
        model, rest = parts[0], parts[1:]
        version: int | None = None
        if len(rest) >= 2 and rest[0] == "versions":
            version, rest = _version(rest[1]), rest[2:]
        match rest:
            case []:
                return _get(partial(self._metadata, model=model, version=version))
            case ["ready"]:
                return _get(partial(self._model_ready, model=model, version=version))
            case ["infer"]:
                return {"POST": partial(self._infer, model=model, version=version)}
            case _:
                raise NotFound(f"there is nothing at {path}")

    @staticmethod
    def _say(value: Mapping[str, Any], request: Request, exchange: Exchange) -> None:
        del request
        exchange.answer(200, encode(value))

    def _check_token(self, request: Request) -> None:
        given = request.headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, self._authorization or b""):
            raise NotAuthenticated("a bearer token is needed here: send 'Authorization: Bearer …' with the token")


def _get(handler: Handler) -> Mapping[str, Handler]:
    return {"GET": handler, "HEAD": handler}


def _version(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise NotFound(f"no version '{text}': versions are whole numbers")
    return int(text)


def _expect_json(request: Request) -> None:
    kind = request.headers.get(b"content-type", b"")
    if kind == b"application/json":
        return
    if kind.partition(b";")[0].strip().lower() not in _JSON_TYPES:
        raise UnsupportedMedia(f"expected application/json, got {kind.decode('latin-1')[:100]}")
