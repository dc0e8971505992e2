"""Two ways to the same router: over HTTP, or inside this process."""

from __future__ import annotations

import http.client
import threading
import time
from typing import Protocol
from urllib.parse import quote, urlencode, urlsplit

from trueline.errors import InvalidInput, Unavailable
from trueline.security.tokens import Guard, OwnerGuard
from trueline.web.api.calls import ApiRequest, ApiResponse
from trueline.web.api.services import Services

IDLE_SECONDS = 2.0
"""How long a connection is trusted to be still open; the server closes idle ones after five seconds."""


class Transport(Protocol):
    def send(self, request: ApiRequest, timeout: float) -> ApiResponse: ...

    def settle(self) -> None:
        """Have everything done that is waiting to be done, if that is this transport's part."""

    def close(self) -> None: ...


class HttpTransport:
    """Keeps one connection per thread."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidInput(f"{url!r} is not the address of a server; it should look like http://127.0.0.1:7077")
        self.url = url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._base = parts.path.rstrip("/")
        self._authorization = f"Bearer {token}"
        self._mine = threading.local()

    def send(self, request: ApiRequest, timeout: float) -> ApiResponse:
        """One request; a read that meets a connection just closed by the server is sent once more."""
        try:
            return self._send(request, timeout)
        except (ConnectionError, http.client.HTTPException) as problem:
            self.close()
            if request.method != "GET" or isinstance(problem, ConnectionRefusedError):
                raise self._unreachable(problem) from problem
        except OSError as problem:
            self.close()
            raise self._unreachable(problem) from problem
        try:
            return self._send(request, timeout)
        except (OSError, http.client.HTTPException) as problem:
            self.close()
            raise self._unreachable(problem) from problem

    def _send(self, request: ApiRequest, timeout: float) -> ApiResponse:
        target = self._base + quote(request.path) + (f"?{urlencode(request.query)}" if request.query else "")
        headers = {"Authorization": self._authorization, "Accept": "application/json"}
        if request.body:
            headers["Content-Type"] = "application/json"
        connection = self._connection(timeout)
        connection.request(request.method, target, body=request.body or None, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        self._mine.used = time.monotonic()
        return ApiResponse(answer.status, body, answer.headers.get("Content-Type", ""), dict(answer.headers))

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if connection is not None and time.monotonic() - self._mine.used > IDLE_SECONDS:
            self.close()
            connection = None
        if connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            connection = kind(self._host, self._port, timeout=timeout)
            self._mine.connection = connection
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        return connection

    def _unreachable(self, problem: Exception) -> Unavailable:
        if isinstance(problem, TimeoutError):
            return Unavailable(f"the server at {self.url} did not answer in time; `trueline status` tells what it does")
        return Unavailable(f"the server at {self.url} cannot be reached ({problem}); is `trueline up` running?")

    def settle(self) -> None:
        """The server's own workers do it."""

    def close(self) -> None:
        connection = getattr(self._mine, "connection", None)
        if connection is not None:
            connection.close()
            self._mine.connection = None


class InProcessTransport:
    """Calls the router here: no server is running, so this process does the work itself."""

    def __init__(self, services: Services, guard: Guard | None = None) -> None:
        # The router is imported by those who dispatch only: a client of a running server starts faster without.
        from trueline.web.api.router import dispatch  # noqa: PLC0415

        self._dispatch = dispatch
        self._services = services
        self._guard = guard or OwnerGuard()

    def send(self, request: ApiRequest, timeout: float) -> ApiResponse:  # noqa: ARG002 nothing to wait for
        return self._dispatch(request, self._services, self._guard)

    def settle(self) -> None:
        self._services.work_until_idle()

    def close(self) -> None:
        self._services.close()
