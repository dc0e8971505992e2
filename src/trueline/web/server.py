"""The API and the pages over HTTP: their routers behind Starlette and uvicorn, in a thread of the control process.

Handlers block (they talk to the database), so each request runs in a small pool of threads; the pool's size bounds
how many are at work at once, and what comes beyond waits in the event loop at no cost. The socket is bound before
anything else, so that a port in use is one sentence and not a half-started server.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trueline.errors import InvalidInput, NotAllowed, Overloaded, TooLarge, Unavailable
from trueline.security import tokens
from trueline.security.people import People
from trueline.security.sessions import Sessions
from trueline.web.api.calls import ApiRequest, ApiResponse
from trueline.web.api.router import dispatch, problem
from trueline.web.api.services import Services
from trueline.web.door import Door
from trueline.web.pages import router as pages
from trueline.web.streams import Streams

BODY_LIMIT = 1024 * 1024  # commands are small; data does not travel through here
DRAIN_LIMIT = 32 * BODY_LIMIT
THREADS = 8
T = TypeVar("T")

STOP_SECONDS = 5.0
GRACE_SECONDS = 3
"""For answers under way at the end, and for streams whose client takes nothing any more."""
PROBES = ("/livez", "/readyz")


class Api:
    """The ASGI application: reads a bounded body, lets a router answer in a thread, sends what streams.

    A request with an Authorization header, to the API or to a probe is for the table of routes; the rest is for pages.
    """

    def __init__(self, services: Services, guard: tokens.Guard, door: Door) -> None:
        self._services = services
        self._guard = guard
        self._door = door
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="api")
        self.streams = Streams(services, self._run)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except ClientDisconnect:
            return  # nobody is left to be answered
        if answer.follow is not None and not self.streams.full:
            await self.streams.serve(answer.follow, receive, send)
            return
        if answer.follow is not None:
            answer = problem(Overloaded("too many streams are open; close a page or try again later"))
        response = Response(answer.body, answer.status, media_type=answer.content_type)
        response.headers.update({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **answer.headers})
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> ApiResponse:
        pairs = request.query_params.multi_items()
        query = dict(pairs)
        if len(query) != len(pairs):
            return problem(InvalidInput("a parameter is given twice"))
        body = await _read(request)
        if body is None:
            return problem(TooLarge(f"the body is larger than {BODY_LIMIT // 1024} KiB, more than any command needs"))
        asked = ApiRequest(
            method=request.method,
            path=request.scope["path"],
            query=query,
            body=body,
            content_type=request.headers.get("content-type"),
            authorization=request.headers.get("authorization"),
            session=self._door.session(request.headers, request.cookies),
            last_event_id=request.headers.get("last-event-id"),
        )
        if asked.authorization is not None or asked.path.startswith("/api/") or asked.path in PROBES:
            return await self._run(dispatch, asked, self._services, self._guard)
        if not self._door.knows(request.headers.get("host")):
            return pages.misdirected()
        return await self._run(pages.answer, asked, self._services, self._guard, self._door)

    async def _run(self, call: Callable[..., T], *given: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *given)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _read(request: Request) -> bytes | None:
    """The body, or None if it is too large.

    What is too large is read to its end (within reason) and forgotten: a client that is still sending does not hear an
    answer, it sees a broken connection.
    """
    body = bytearray()
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= BODY_LIMIT:
            body += part
        elif size > DRAIN_LIMIT:
            break
    return bytes(body) if size <= BODY_LIMIT else None


def application(api: Api) -> Starlette:
    """The whole of what the control process answers over HTTP."""
    app = Starlette()
    app.mount("/", api)
    return app


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, or one sentence why not."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as why:
        raise Unavailable(f"{host} is not an address of this machine ({why.strerror})") from why
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as why:
        listening.close()
        raise Unavailable(
            f"port {port} on {host} cannot be used ({why.strerror}); stop what uses it or choose another"
        ) from why
    return listening


class ApiServer:
    """The API on a port, from `start` to `stop`; a context manager does both."""

    def __init__(
        self, services: Services, host: str, port: int, token: str | None, people: People | None = None
    ) -> None:
        if token is None:
            raise NotAllowed("the API is not served without a token; `trueline up` makes one in the state folder")
        self.door = Door(Sessions(tokens.checked(token)), host)
        self._api = Api(services, tokens.guard(token, people=people), self.door)
        self._socket = bind(host, port)
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            application(self._api),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="api-server", daemon=True)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def start(self) -> Self:
        """Serve from now on; the socket already listens, so no request made after this is refused."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Answer what is under way, end the streams, then close."""
        self._server.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._api.streams.close)
        self._thread.join(STOP_SECONDS)
        self._socket.close()
        self._api.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._socket])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve_api(
    services: Services,
    host: str,
    port: int,
    token: str | None,
    *,
    stop: threading.Event,
    ready: Callable[[str], None] = lambda url: None,  # noqa: ARG005 the default tells nobody
) -> None:
    """Serve until `stop` is set; `ready` hears the address once requests are accepted."""
    with ApiServer(services, host, port, token) as server:
        ready(server.url)
        stop.wait()
