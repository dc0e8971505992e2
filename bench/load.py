"""A small load generator: rounds of one request on each of many keep-alive connections.

`python load.py URL PATH BODY CONNECTIONS SECONDS` prints {"answered", "failed", "seconds"} as JSON. What is measured is
the server's CPU time, so it matters that this sends many at once, not that it is fast.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from urllib.parse import urlsplit


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    made = socket.create_connection((parts.hostname, parts.port), timeout=10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def request(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answer(channel: socket.socket) -> bytes:
    """One whole response; its Content-Length says how long it is."""
    received = channel.recv(65536)
    while b"\r\n\r\n" not in received:
        received += _more(channel)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(
        next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1]
    )
    while len(body) < length:
        body += _more(channel)
    return head + b"\r\n\r\n" + body


def _more(channel: socket.socket) -> bytes:
    part = channel.recv(65536)
    if not part:
        raise ConnectionError("the server closed the connection")
    return part


def load(url: str, path: str, body: bytes, connections: int, seconds: float) -> dict[str, float]:
    channels = [connect(url) for _ in range(connections)]
    asked = request(path, body)
    answered = failed = 0
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        for channel in channels:
            channel.sendall(asked)
        for channel in channels:
            if answer(channel).startswith(b"HTTP/1.1 200"):
                answered += 1
            else:
                failed += 1
    taken = time.monotonic() - began
    for channel in channels:
        channel.close()
    return {"answered": answered, "failed": failed, "seconds": taken}


if __name__ == "__main__":
    url, path, body, connections, seconds = sys.argv[1:]
    print(json.dumps(load(url, path, body.encode(), int(connections), float(seconds))))
