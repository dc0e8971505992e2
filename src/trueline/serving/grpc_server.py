"""Open Inference over gRPC, in the serving process and over the same data plane as HTTP.

grpc.aio runs on the process's own event loop, so requests of gRPC and HTTP that arrive in one turn of it are one batch. A
caller without the token is turned away before his message is read. Errors are those of HTTP with their sentences; what a
client should try again later says when (`grpc-retry-pushback-ms`, which gRPC's own retry policy obeys).

Only this module knows grpcio, which is the extra `grpc` and is imported when a port is asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import grpc
import grpc.aio

from trueline.errors import Overloaded, TruelineError, Unavailable
from trueline.serving import grpc_tensors as tensors
from trueline.serving import openinference
from trueline.serving.dataplane import Answer, DataPlane
from trueline.serving.endpoints import Endpoints, version_number
from trueline.serving.grpc_messages import MESSAGES, PACKAGE
from trueline.serving.limits import Limits

log = logging.getLogger(__name__)

SERVICE = f"{PACKAGE}.GRPCInferenceService"
OPEN = frozenset({"ServerLive", "ServerReady"})  # to probes, without a token
OWN_CHECK = frozenset({"RepositoryModelLoad", "RepositoryModelUnload"})  # they ask who it is, also on loopback
SENTENCE = 2000  # characters: a status travels in headers, which clients bound

Code = grpc.StatusCode
CODES: Mapping[int, Any] = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.FAILED_PRECONDITION,
    413: Code.RESOURCE_EXHAUSTED,
    422: Code.FAILED_PRECONDITION,
    429: Code.RESOURCE_EXHAUSTED,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}
"""The status of a TruelineError as gRPC's; what is not here is INTERNAL."""

Method = Callable[[bytes, Any], Awaitable[bytes]]


class Listener:
    """The gRPC server of one process."""

    def __init__(self, plane: DataPlane, endpoints: Endpoints, limits: Limits, *, shared: bool) -> None:
        self._server = grpc.aio.server(options=_options(limits, shared=shared))
        self._server.add_generic_rpc_handlers((_Service(plane, endpoints),))

    async def start(self, host: str, port: int) -> str:
        """Listen; returns the address."""
        shown = f"[{host}]" if ":" in host else host
        try:
            bound: int = self._server.add_insecure_port(f"{shown}:{port}")
        except RuntimeError:
            raise Unavailable(
                f"port {port} on {host} cannot be used for gRPC; stop what listens there or choose another --grpc-port"
            ) from None
        await self._server.start()
        return f"{shown}:{bound}"

    async def stop(self, grace: float) -> None:
        """Take nothing new; what is in progress has `grace` seconds."""
        await self._server.stop(grace)


class _Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Finds the handler of a call by its method, when its headers are here and its message is not."""

    def __init__(self, plane: DataPlane, endpoints: Endpoints) -> None:
        self._plane = plane
        self._endpoints = endpoints
        self._handlers = {f"/{SERVICE}/{name}": self._handler(name, method) for name, method in self._methods().items()}
        self._open = frozenset(f"/{SERVICE}/{name}" for name in OPEN | OWN_CHECK)

    def service(self, details: Any) -> Any:
        method = details.method
        if method not in self._open:
            given = _authorization(details.invocation_metadata)
            try:
                self._endpoints.check_token(None if given is None else given.encode())
            except TruelineError as error:
                return grpc.stream_unary_rpc_method_handler(partial(_refuse, error))
        return self._handlers.get(method)

    def _methods(self) -> Mapping[str, Method]:
        return {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    def _handler(self, name: str, method: Method) -> Any:
        async def handle(data: bytes, context: Any) -> bytes:
            try:
                return await method(data, context)
            except TruelineError as error:
                await _refuse(error, None, context)
                raise  # not reached: abort raises
            except grpc.aio.AbortError:
                raise
            except Exception:
                log.exception("a defect in trueline, while answering %s", name)
                await context.abort(Code.INTERNAL, "an unexpected error happened here; the server's log has it")
                raise

        return grpc.unary_unary_rpc_method_handler(handle)

    # -- inference

    async def _infer(self, data: bytes, context: Any) -> bytes:
        endpoints = self._endpoints
        answered: asyncio.Future[Answer | TruelineError] = asyncio.get_running_loop().create_future()

        def reply(answer: Answer | TruelineError) -> None:
            if not answered.done():  # else the caller has gone
                answered.set_result(answer)

        try:
            message = tensors.parse("ModelInferRequest", data)
            version = version_number(message.model_version) if message.model_version else None
            if version is None:
                self._plane.check_room()
            found = endpoints.find(message.model_name, version)
            call, form = tensors.decode(message, found.runner.signature, found.plain)
            call.model, call.version = message.model_name, version
            sent = context.invocation_metadata()
            if sent:
                _read_metadata(call, dict(sent), endpoints)
            self._plane.submit(call, reply)
        except TruelineError as error:
            endpoints.count(error.status)
            raise
        answer = await answered
        if isinstance(answer, TruelineError):
            raise answer
        if not answer.recorded:
            context.set_trailing_metadata((("trueline-unrecorded", "the journal cannot be written"),))
        return tensors.encode(answer, form)

    # -- health and metadata

    async def _live(self, data: bytes, context: Any) -> bytes:
        del data, context
        return _message("ServerLiveResponse", live=True)

    async def _ready(self, data: bytes, context: Any) -> bytes:
        del data, context
        try:
            self._endpoints.ready()
        except Unavailable:
            return _message("ServerReadyResponse", ready=False)
        return _message("ServerReadyResponse", ready=True)

    async def _model_ready(self, data: bytes, context: Any) -> bytes:
        del context
        self._named(tensors.parse("ModelReadyRequest", data))
        return _message("ModelReadyResponse", ready=True)

    async def _server_metadata(self, data: bytes, context: Any) -> bytes:
        del data, context
        return _message("ServerMetadataResponse", **openinference.server_metadata())

    async def _model_metadata(self, data: bytes, context: Any) -> bytes:
        del context
        request = tensors.parse("ModelMetadataRequest", data)
        found = self._named(request)
        versions = sorted(one.version for one in self._plane.versions.loaded)
        runner = found.runner
        shown = openinference.model_metadata(request.name, versions, runner.kind, runner.signature)
        return _message("ModelMetadataResponse", **shown)

    # -- the repository of models

    async def _index(self, data: bytes, context: Any) -> bytes:
        del context
        ready = tensors.parse("RepositoryIndexRequest", data).ready
        return _message("RepositoryIndexResponse", models=self._endpoints.repository.index(ready_only=ready))

    async def _load(self, data: bytes, context: Any) -> bytes:
        repository = self._endpoints.repository
        who = repository.who(_authorization(context.invocation_metadata()))
        model, version = tensors.wanted(tensors.parse("RepositoryModelLoadRequest", data))
        await repository.load(model, version, who)
        return _message("RepositoryModelLoadResponse", model_name=model, isLoaded=True)

    async def _unload(self, data: bytes, context: Any) -> bytes:
        repository = self._endpoints.repository
        who = repository.who(_authorization(context.invocation_metadata()))
        model, version = tensors.wanted(tensors.parse("RepositoryModelUnloadRequest", data))
        await repository.unload(model, version, who)
        return _message("RepositoryModelUnloadResponse", model_name=model, isUnloaded=True)

    def _named(self, request: Any) -> Any:
        return self._endpoints.find(request.name, version_number(request.version) if request.version else None)


def _read_metadata(call: Any, sent: Mapping[str, Any], endpoints: Endpoints) -> None:
    """What REST takes from headers."""
    if call.client_id is None and "x-request-id" in sent:
        call.client_id = str(sent["x-request-id"])[:256]
    stamp = sent.get("x-trueline-event-time")
    call.event_us = endpoints.event_time(None if stamp is None else str(stamp).encode())


def _authorization(metadata: Any) -> str | None:
    return next((value for name, value in metadata or () if name == "authorization"), None)


def _message(kind: str, /, **fields: Any) -> bytes:
    data: bytes = MESSAGES[kind](**fields).SerializeToString()
    return data


async def _refuse(error: TruelineError, _: Any, context: Any) -> None:
    """End a call with the error's status and sentence."""
    code = CODES.get(error.status, Code.INTERNAL)
    trailing = (("grpc-retry-pushback-ms", "1000"),) if isinstance(error, Overloaded | Unavailable) else ()
    await context.abort(code, str(error)[:SENTENCE], trailing)


def _options(limits: Limits, *, shared: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(shared)),  # else a second server would join in unasked
        ("grpc.max_receive_message_length", limits.body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", limits.connections),  # Python clients that open more at once lose some
        ("grpc.max_connection_idle_ms", int(limits.idle_seconds * 1000)),
        ("grpc.keepalive_time_ms", int(limits.idle_seconds * 1000)),  # finds peers that are gone
        ("grpc.keepalive_timeout_ms", int(limits.body_seconds * 1000)),
    ]
