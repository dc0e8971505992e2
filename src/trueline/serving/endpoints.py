"""The HTTP surface: which path and method means what, who may call it, and how errors become answers."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import version
from typing import Any

from trueline.clock import to_us
from trueline.errors import (
    InvalidInput,
    NotAuthenticated,
    NotFound,
    NotSupported,
    TruelineError,
    Unavailable,
    UnsupportedMedia,
)
from trueline.serving import (
    binary,
    docspage,
    encodings,
    idempotency,
    invocations,
    kserve,
    labels,
    openapi,
    openinference,
    predict,
    repository,
)
from trueline.serving.dataplane import Answer, Call, DataPlane
from trueline.serving.paths import Paths
from trueline.serving.protocol import Exchange, Request
from trueline.serving.repository import Repository
from trueline.serving.responses import JSON, PROMETHEUS, TEXT, Header, encode, headers_for, problem
from trueline.serving.table import Loaded

log = logging.getLogger(__name__)

Handler = Callable[[Request, Exchange], None]

OWN_CHECK = "/v2/repository/models/"
"""Below it, tokens of people are taken too: the repository looks at them."""

_JSON = b"application/json"
_JSON_TYPES = frozenset({b"application/json", b"", b"text/json"})
_UTF8 = frozenset({b"utf-8", b"utf8", b"us-ascii"})
UNRECORDED = (b"trueline-unrecorded", b"the journal cannot be written")
_NO_TOKEN = frozenset({"/", "/livez", "/readyz", "/ping", "/health", "/v2/health/live", "/v2/health/ready"})


def _refusal(error: TruelineError) -> bytes:
    return problem(str(error))


@dataclass(frozen=True)
class Policy:
    """What the command line decided."""

    token: str | None  # None: loopback only, nobody is asked
    replay: bool  # requests may say when they happened


class Endpoints:
    def __init__(
        self,
        plane: DataPlane,
        policy: Policy,
        exposition: Callable[[Callable[[str], None]], None],
        repository: Repository,
    ) -> None:
        self._plane = plane
        self._policy = policy
        self._exposition = exposition
        self._authorization = f"Bearer {policy.token}".encode() if policy.token is not None else None
        self.draining = False
        self.repository = repository
        self._answered = idempotency.Answered()
        self._described: tuple[Loaded, Mapping[str, Any]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._paths = Paths(self._table(), _arguments)
        self._exact = self._paths.exact

    def _table(self) -> dict[str, Mapping[str, Callable[..., None]]]:
        """Every path there is; the first that fits counts."""
        v2, models = "/v2/models/{model}", "/v2/repository/models/{model}"
        pinned = f"{v2}/versions/{{version}}"
        alive, ready = _get(partial(self._say, {"live": True})), _get(self._ready)
        return {
            "/predict": {"POST": self._predict},
            "/labels": {"POST": self._labels},
            "/metrics": _get(self._metrics),
            "/livez": alive,
            "/readyz": ready,
            "/openapi.json": _get(self._openapi),
            "/docs": _get(self._docs),
            # Open Inference v2
            "/v2": _get(partial(self._say, openinference.server_metadata())),
            "/v2/health/live": alive,
            "/v2/health/ready": ready,
            "/v2/models": _get(self._models),
            "/v2/docs": _get(self._docs),
            "/v2/docs/dataplane.json": _get(self._openapi),
            v2: _get(self._metadata),
            f"{v2}/ready": _get(self._model_ready),
            f"{v2}/infer": {"POST": self._infer},
            pinned: _get(self._metadata),
            f"{pinned}/ready": _get(self._model_ready),
            f"{pinned}/infer": {"POST": self._infer},
            "/v2/repository/index": {"POST": self._index},
            f"{models}/load": {"POST": partial(self._change, "load")},
            f"{models}/unload": {"POST": partial(self._change, "unload")},
            # MLflow
            "/invocations": {"POST": self._invocations},
            "/ping": _get(self._ping),
            "/health": _get(self._ping),
            "/version": _get(self._version),
            # KServe v1
            "/": _get(partial(self._say, {"status": "alive"})),
            "/v1/models": _get(self._models),
            "/v1/models/{model}:predict": {"POST": self._predict_v1},
            "/v1/models/{model}:explain": {"POST": self._explain},
            "/v1/models/{model}": _get(self._model_ready),
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
                _tell_methods(request, exchange, [*sorted(methods), "OPTIONS"])
                return
            handler(request, exchange)
        except TruelineError as error:
            if request.method == "POST" and request.path != "/labels":
                self.count(error.status)
            form = invocations.refusal if request.path == "/invocations" else _refusal
            exchange.answer(error.status, form(error), JSON, headers_for(error) + _echo(request))

    def count(self, status: int) -> None:
        """A request that was refused before it was any version's."""
        self._plane.metrics.requests[self._plane.versions.standing.table.model, "", "", status] += 1

    # -- inference

    def _predict(self, request: Request, exchange: Exchange) -> None:
        self._plane.check_room()
        headers = request.headers
        if headers.get(b"content-type") != _JSON or b"content-encoding" in headers:
            self._expect_json(request)
        form: Callable[[Answer], bytes] = predict.encode
        key = headers.get(idempotency.HEADER) or None
        if key is not None:
            known = self._answered.find(key, request.body)
            if known is not None:
                mine = (b"trueline-request-id", known.request_id)
                exchange.answer(200, known.body, JSON, (mine, idempotency.REPLAYED, *_echo(request)))
                return
            waiting = self._answered.under_way(key, request.body)
            if waiting is not None:
                waiting.append((exchange, _echo(request)))
                return
            form = self._answered.keeping(key, request.body, form)
        standing = self._plane.versions.standing
        champion = standing.champion
        call = predict.decode(request.body, None if champion is None else champion.plain)
        if key is not None:
            idempotency.name(call, standing.table.model, key, request.body)
        self._submit(call, request, exchange, form, key)

    def _infer(self, request: Request, exchange: Exchange, *, model: str, version: int | None = None) -> None:
        if version is None:
            self._plane.check_room()
        json_size = request.headers.get(binary.LENGTH)
        if json_size is None:
            self._expect_json(request)
        else:
            self._unpack(request)
        found = self.find(model, version)
        call, wanted = openinference.decode(request.body, found.runner.signature, json_size, found.plain)
        call.model, call.version = model, version
        self._ask(call, request, exchange, partial(openinference.encode, wanted=wanted))

    def _predict_v1(self, request: Request, exchange: Exchange, *, model: str) -> None:
        self._plane.check_room()
        self._expect_json(request)
        call = kserve.decode(request.body, self.find(model, None).runner.signature)
        call.model = model
        self._ask(call, request, exchange, kserve.encode)

    def _explain(self, request: Request, exchange: Exchange, *, model: str) -> None:
        del request, exchange
        raise NotSupported(f"'{model}' has no explainer; predictions are at /v1/models/{model}:predict")

    def _invocations(self, request: Request, exchange: Exchange) -> None:
        try:
            self._plane.check_room()
            self._unpack(request)
            signature = self.find(self._plane.versions.standing.table.model, None).runner.signature
            call = invocations.decode(request.body, request.headers.get(b"content-type", b""), signature)
            self._ask(call, request, exchange, invocations.encode, invocations.refusal)
        except TruelineError as error:
            self.count(error.status)
            exchange.answer(error.status, invocations.refusal(error), JSON, headers_for(error) + _echo(request))

    def _ask(
        self,
        call: Call,
        request: Request,
        exchange: Exchange,
        form: Callable[[Answer], tuple[bytes, bytes, tuple[Header, ...]]],
        refusal: Callable[[TruelineError], bytes] = _refusal,
    ) -> None:
        """As `_submit`, for protocols with content types, headers or refusals of their own."""
        named = request.headers.get(b"x-request-id")
        if named is not None and call.client_id is None:
            call.client_id = named.decode("latin-1")[:256]
        call.event_us = self._event_time(request)

        def reply(answer: Answer | TruelineError) -> None:
            if isinstance(answer, TruelineError):
                exchange.answer(answer.status, refusal(answer), JSON, headers_for(answer) + _echo(request))
                return
            body, kind, headers = form(answer)
            mine = (b"trueline-request-id", answer.request_id.encode()) if answer.recorded else UNRECORDED
            echoed = (mine,) if named is None else (mine, (b"x-request-id", named))
            exchange.answer(200, body, kind, headers + echoed)

        self._plane.submit(call, reply)

    def _submit(
        self, call: Call, request: Request, exchange: Exchange, form: Callable[[Answer], bytes], key: bytes | None
    ) -> None:
        headers = request.headers
        named = headers.get(b"x-request-id")
        if named is not None and call.client_id is None:
            call.client_id = named.decode("latin-1")[:256]
        if self._policy.replay:
            call.event_us = self._event_time(request)
        again: list[idempotency.Waiting] = []  # that came with the same key before there was an answer

        def reply(answer: Answer | TruelineError) -> None:
            if key is not None:
                self._answered.end(key, request.body)
            if isinstance(answer, TruelineError):
                for one, its in ((exchange, _echo(request)), *again):
                    one.answer(answer.status, _refusal(answer), JSON, headers_for(answer) + its)
                return
            body = form(answer)
            mine = (b"trueline-request-id", answer.request_id.encode()) if answer.recorded else UNRECORDED
            exchange.answer(200, body, JSON, (mine,) if named is None else (mine, (b"x-request-id", named)))
            for one, its in again:
                one.answer(200, body, JSON, (mine, idempotency.REPLAYED, *its))

        self._plane.submit(call, reply)
        if key is not None:
            self._answered.begin(key, request.body, again)

    def _labels(self, request: Request, exchange: Exchange) -> None:
        self._expect_json(request)
        accepted = labels.accept(request.body, self._plane, self._event_time(request))
        exchange.answer(200, accepted, JSON, _echo(request))

    def _event_time(self, request: Request) -> int | None:
        return self.event_time(request.headers.get(b"x-trueline-event-time")) if self._policy.replay else None

    def event_time(self, stamp: bytes | None) -> int | None:
        """When it happened, if this server replays and the caller says so; anywhere else the header means nothing."""
        if stamp is None or not self._policy.replay:
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
        self.ready()
        self._say({"ready": True}, request, exchange)

    def ready(self) -> None:
        """Raise Unavailable unless predictions are answered."""
        if self.draining:
            raise Unavailable("the server is shutting down")
        if not self._plane.versions.standing.ready:
            raise Unavailable("no version of the model is released yet; release one")

    def _models(self, request: Request, exchange: Exchange) -> None:
        table = self._plane.versions.standing.table
        self._say({"models": [table.model] if table.routes else []}, request, exchange)

    def _ping(self, request: Request, exchange: Exchange) -> None:
        self.ready()
        del request
        exchange.answer(200, b"\n")

    def _version(self, request: Request, exchange: Exchange) -> None:
        del request
        exchange.answer(200, version("trueline").encode(), TEXT)

    def _metrics(self, request: Request, exchange: Exchange) -> None:
        del request
        self._exposition(lambda text: exchange.answer(200, text.encode(), PROMETHEUS))

    def _metadata(self, request: Request, exchange: Exchange, *, model: str, version: int | None = None) -> None:
        runner = self.find(model, version).runner
        versions = sorted(one.version for one in self._plane.versions.loaded)
        shown = openinference.model_metadata(model, versions, runner.kind, runner.signature)
        self._say(shown, request, exchange)

    def _model_ready(self, request: Request, exchange: Exchange, *, model: str, version: int | None = None) -> None:
        self.find(model, version)
        self._say({"name": model, "ready": True}, request, exchange)

    def find(self, model: str, version: int | None) -> Loaded:
        """A named version, or the one that stands for the model: its champion."""
        versions = self._plane.versions
        table = versions.standing.table
        if model != table.model:
            raise NotFound(f"no model '{model[:100]}' is served here; this server has '{table.model}'")
        if version is not None:
            return versions.pinned(version)
        if versions.standing.champion is None:
            raise Unavailable(f"no version of '{model}' is released yet; release one and try again")
        return versions.standing.champion

    def _model_methods(self, path: str) -> Mapping[str, Handler]:
        if path == "*":  # of OPTIONS: the server as a whole
            return {}
        found = self._paths.find(path)
        if found is None:
            raise NotFound(f"there is nothing at {path[:200]}; /docs has what there is")
        return found

    # -- what can be asked, in words

    def _openapi(self, request: Request, exchange: Exchange) -> None:
        self._say(self._description(), request, exchange)

    def _docs(self, request: Request, exchange: Exchange) -> None:
        host = request.headers.get(b"host")
        page = docspage.page(self._description(), None if host is None else host.decode("latin-1"))
        exchange.answer(200, page, docspage.HTML, (docspage.POLICY,))

    def _description(self) -> Mapping[str, Any]:
        """The OpenAPI document, written once for each champion."""
        model = self._plane.versions.standing.table.model
        champion = self.find(model, None)
        if self._described is None or self._described[0] is not champion:
            document = openapi.document(
                model, champion, token=self._authorization is not None, guarded=self.repository.guarded
            )
            self._described = champion, document
        return self._described[1]

    # -- the model repository

    def _index(self, request: Request, exchange: Exchange) -> None:
        exchange.answer(200, encode(self.repository.index(ready_only=repository.wants_ready_only(request.body))))

    def _change(self, what: str, request: Request, exchange: Exchange, *, model: str) -> None:
        """Load or unload; it may take seconds, and nothing waits for it but who asked."""
        authorization = request.headers.get(b"authorization")
        shown = None if authorization is None else authorization.decode("latin-1")
        actor = self.repository.who(shown, open_house=self._authorization is None)
        version = repository.wanted_version(request.body)
        deed = self.repository.load if what == "load" else self.repository.unload

        async def do() -> None:
            try:
                versions = await deed(model, version, actor)
            except TruelineError as error:
                exchange.refuse(error)
            except Exception:
                log.exception("a defect in trueline, while it was asked to %s version %s", what, version)
                exchange.answer(500, problem("an unexpected error happened here; the server's log has it"))
            else:
                exchange.answer(200, encode({"name": model, what: True, "versions": [str(one) for one in versions]}))

        task = asyncio.get_running_loop().create_task(do())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _say(value: Mapping[str, Any], request: Request, exchange: Exchange) -> None:
        del request
        exchange.answer(200, encode(value))

    def _expect_json(self, request: Request) -> None:
        headers = request.headers
        if b"content-encoding" in headers:
            self._unpack(request)
        kind = headers.get(b"content-type", b"")
        if kind == _JSON:
            return
        media, *parameters = [part.strip().lower() for part in kind.split(b";")]
        if media not in _JSON_TYPES:
            raise UnsupportedMedia(f"Content-Type: expected application/json, got {kind.decode('latin-1')[:100]}")
        for parameter in parameters:
            name, _, value = parameter.partition(b"=")
            if name.strip() == b"charset" and value.strip(b' "') not in _UTF8:
                said = parameter.decode("latin-1")[:100]
                raise UnsupportedMedia(f"Content-Type: expected application/json in UTF-8, got {said}")

    def _unpack(self, request: Request) -> None:
        encoding = request.headers.get(b"content-encoding")
        if encoding is not None:
            request.body = encodings.decoded(request.body, encoding, self._plane.limits.body_bytes)

    def _check_token(self, request: Request) -> None:
        if not request.path.startswith(OWN_CHECK):
            self.check_token(request.headers.get(b"authorization"))

    def check_token(self, given: bytes | None) -> None:
        """Raise NotAuthenticated unless this Authorization header has the token, or none is needed."""
        wanted = self._authorization
        if wanted is not None and not hmac.compare_digest(given or b"", wanted):
            if given:
                raise NotAuthenticated("this token is not known here; use the one in the state folder's token file")
            raise NotAuthenticated("a bearer token is needed here: send 'Authorization: Bearer …' with the token")


def _echo(request: Request) -> tuple[Header, ...]:
    """What the caller calls the request, for answers of every kind."""
    named = request.headers.get(b"x-request-id")
    return () if named is None else ((b"x-request-id", named),)


def _tell_methods(request: Request, exchange: Exchange, methods: Sequence[str]) -> None:
    """What a path takes: the answer to OPTIONS, or why another method is refused."""
    allowed = ((b"allow", ", ".join(methods).encode()),)
    if request.method == "OPTIONS":
        exchange.answer(200, b"", TEXT, allowed)
        return
    taken = ", ".join(methods[:-1]) or "OPTIONS"
    exchange.answer(405, problem(f"{request.path} takes {taken}, not {request.method}"), JSON, allowed)


def _get(handler: Callable[..., None]) -> Mapping[str, Callable[..., None]]:
    return {"GET": handler, "HEAD": handler}


def _arguments(given: Mapping[str, str]) -> dict[str, Any]:
    """What a path's placeholders stand for."""
    return {name: version_number(text) if name == "version" else text for name, text in given.items()}


def version_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise NotFound(f"no version '{text[:100]}': versions are whole numbers")
    return int(text)
