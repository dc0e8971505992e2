"""A few keep-alive connections to the model server, one request in flight on each.

A replay speaks raw HTTP here, as any caller of a model would, and cheaply: the machine is shared with the server that
it measures.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedReader
from urllib.parse import urlsplit

from trueline.errors import Unavailable

PATIENCE = 30.0  # seconds a server may be away, for instance while its supervisor restarts it
PAUSE = 0.05


@dataclass(frozen=True)
class Request:
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


class Connection:
    """One connection; it opens again by itself, and sends again what was not answered."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None
        self._reader: BufferedReader | None = None
        self._pending = b""

    def send(self, request: Request) -> None:
        host, port = self._address
        lines = [f"POST {request.path} HTTP/1.1", f"Host: {host}:{port}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in request.headers]
        lines.append(f"Content-Length: {len(request.body)}")
        self._pending = "\r\n".join(lines).encode() + b"\r\n\r\n" + request.body
        try:
            self._write()
        except OSError:
            self.close()  # `receive` opens it and sends again

    def receive(self) -> Answer:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if self._reader is None:
                    self._write()
                return self._read()
            except OSError as problem:
                self.close()
                if time.monotonic() > deadline:
                    host, port = self._address
                    raise Unavailable(
                        f"the model server at {host}:{port} did not answer for {PATIENCE:.0f} s ({problem}); "
                        "see its last lines above"
                    ) from problem
                time.sleep(PAUSE)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._socket is not None:
            self._socket.close()
        self._socket, self._reader = None, None

    def _write(self) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=PATIENCE)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._reader = self._socket.makefile("rb")
        self._socket.sendall(self._pending)

    def _read(self) -> Answer:
        reader = self._reader
        if reader is None:
            raise ConnectionError("not connected")
        status = reader.readline()
        if not status.startswith(b"HTTP/1."):
            raise ConnectionError("the connection was closed before the answer")
        length, stays = 0, True
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            match name.lower():
                case b"content-length":
                    length = int(value)
                case b"connection":
                    stays = value.strip().lower() != b"close"
        body = reader.read(length)
        if len(body) < length:
            raise ConnectionError("the connection was closed within the answer")
        if not stays:
            self.close()
        return Answer(int(status.split(b" ", 2)[1]), body)


class Wire:
    def __init__(self, url: str, connections: int = 16) -> None:
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise Unavailable(f"'{url}' is not the address of a model server; expected http://host:port")
        self._connections = [Connection(parts.hostname, parts.port) for _ in range(connections)]

    def post(self, requests: Sequence[Request]) -> list[Answer]:
        """Post all, a round at a time, as many at once as there are connections; answers in the order asked."""
        answers: list[Answer] = []
        width = len(self._connections)
        for first in range(0, len(requests), width):
            batch = list(zip(self._connections, requests[first : first + width], strict=False))
            for connection, request in batch:
                connection.send(request)
            answers += [connection.receive() for connection, _ in batch]
        return answers

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
