"""Asking the model server over HTTP: many requests on one connection before the first answer is awaited.

What arrives together is one batch there, so a pipeline of requests costs little more than one. Sending and reading go on side
by side, for a server that is not read stops reading.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httptools

from trueline.errors import InvalidInput, Unavailable

TIMEOUT = 30.0  # without a byte from the server
_CONNECT = 5.0


@dataclass(frozen=True)
class Request:
    path: str
    id: str
    body: bytes
    event_time: str | None = None


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    retry_after: float | None = None


class ModelServer:
    """A connection to the model server, opened when needed and again when lost."""

    def __init__(self, url: str, token: str | None = None, *, timeout: float = TIMEOUT) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or not url.isascii() or (port := _port(parts)) is None:
            raise InvalidInput(f"{url} is not the address of a model server; expected http://HOST:PORT")
        self.url = url
        self._address = (parts.hostname, port)
        lines = [f"Host: {parts.netloc}", "Content-Type: application/json"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        self._common = "\r\n".join(lines)
        self._timeout = timeout
        self._socket: socket.socket | None = None

    def check(self) -> Reply:
        """What it says of itself, without asking for a prediction.

        Raises:
            Unavailable: nobody answers there, or not in HTTP.
        """
        replies: list[Reply] = []
        try:
            self._converse(deque([f"GET /v2 HTTP/1.1\r\n{self._common}\r\n\r\n".encode("ascii")]), replies, 1)
        except (
            OSError,
            UnicodeError,
            httptools.HttpParserError,
        ) as problem:  # UnicodeError: a name with an empty label
            self.close()
            said = getattr(problem, "strerror", None) or str(problem) or "it closed the connection"
            why = "what it says is not HTTP" if isinstance(problem, httptools.HttpParserError) else said
            raise Unavailable(
                f"the model server at {self.url} cannot be reached ({why}); start it, or correct --server"
            ) from None
        return replies[0]

    def ask(self, requests: Sequence[Request]) -> list[Reply | None]:
        """The replies, in order; None for each that did not come because the server or the connection went away."""
        replies: list[Reply] = []
        try:
            self._converse(deque(map(self._bytes, requests)), replies, len(requests))
        except (OSError, httptools.HttpParserError):
            self.close()
        missing: list[Reply | None] = [None] * (len(requests) - len(replies))
        return [*replies, *missing]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _converse(self, outgoing: deque[bytes], replies: list[Reply], expected: int) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=_CONNECT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setblocking(False)
        connection = self._socket
        reader = _Reader(replies)
        unsent = memoryview(b"".join(outgoing))
        heard = time.monotonic()
        while len(replies) < expected:
            readable, writable, _ = select.select([connection], [connection] if unsent else [], [], self._timeout)
            if writable:
                unsent = unsent[connection.send(unsent) :]
            if readable:
                data = connection.recv(262_144)
                if not data:
                    raise ConnectionResetError
                heard = time.monotonic()
                reader.parser.feed_data(data)
            elif time.monotonic() - heard > self._timeout:
                raise TimeoutError(f"no answer in {self._timeout:g} s")
        if reader.closing:
            self.close()

    def _bytes(self, request: Request) -> bytes:
        event = f"X-Trueline-Event-Time: {_plain(request.event_time)}\r\n" if request.event_time else ""
        name = _plain(request.id)
        head = (
            f"POST {request.path} HTTP/1.1\r\n{self._common}\r\nX-Request-Id: {name}\r\nIdempotency-Key: {name}\r\n"
            f"{event}Content-Length: {len(request.body)}\r\n\r\n"
        )
        return head.encode("ascii") + request.body


class _Reader:
    """Collects replies as the parser finds them."""

    def __init__(self, replies: list[Reply]) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.closing = False
        self._replies = replies
        self._body: list[bytes] = []
        self._retry_after: float | None = None

    def on_message_begin(self) -> None:
        self._body = []
        self._retry_after = None

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"retry-after" if value.isdigit():
                self._retry_after = float(value)
            case b"connection" if value.lower() == b"close":
                self.closing = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._replies.append(Reply(self.parser.get_status_code(), b"".join(self._body), self._retry_after))


def _port(parts: SplitResult) -> int | None:
    try:
        return 80 if parts.port is None else parts.port or None
    except ValueError:  # no number, or none of a port
        return None


def _plain(text: str) -> str:
    """A header's value: printable ASCII, whatever a message brought."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)
