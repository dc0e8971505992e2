"""The other end of a server: keep-alive connections that send the next request when the last answer is complete.

`load.send` runs it as a process of its own, on another core than the server, so that its cost is not the server's:
`python bench/load.py PORT PATH CONNECTIONS SECONDS BODIES`, with one JSON body per line of the file BODIES. Prints
`{"answered", "failed", "seconds", "p50", "p99"}`, the last two in milliseconds; failed are answers other than 200 and
connections that ended. It ends early, in order, when its standard input ends.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import uvloop

import cpu

CORE = 1  # servers have core 0
HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Sent:
    answered: int
    failed: int
    seconds: float
    p50: float  # milliseconds
    p99: float


@dataclass
class Tally:
    taken: list[float] = field(default_factory=list)  # seconds, of each that was answered
    failed: int = 0
    stopping: bool = False


def start(port: int, path: str, bodies: Path, *, connections: int, seconds: float) -> subprocess.Popen[str]:
    """Begin to send; `finish` waits for the end."""
    command = [sys.executable, __file__, str(port), path, str(connections), str(seconds), str(bodies)]
    with cpu.pinned(CORE):
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> Sent:
    """What was sent; stops a sender that has not come to its own end."""
    told, _ = process.communicate("")
    if process.returncode:
        raise RuntimeError("the load could not be sent; the reason is above")
    return Sent(**json.loads(told))


def send(port: int, path: str, bodies: Path, *, connections: int, seconds: float) -> Sent:
    process = start(port, path, bodies, connections=connections, seconds=seconds)
    try:
        process.wait()
    finally:
        sent = finish(process)
    return sent


class Sender(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], tally: Tally) -> None:
        self._requests = requests
        self._tally = tally
        self._received = b""
        self._asked = 0.0
        self._transport: asyncio.Transport
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        if len(received) < _size(received):
            self._received = received
            return
        self._received = b""
        if received.startswith(b"HTTP/1.1 200"):
            self._tally.taken.append(time.perf_counter() - self._asked)
        else:
            self._tally.failed += 1
        if self._tally.stopping:
            self._transport.close()
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None or not self._tally.stopping:
            self._tally.failed += 1
        self.over.set_result(None)


def _size(received: bytes) -> float:
    """Bytes of the whole answer, as far as can be told."""
    head = received.find(HEAD_END)
    if head < 0:
        return float("inf")
    at = received[:head].lower().find(b"content-length:")
    end = received.find(b"\r\n", at)
    return head + len(HEAD_END) + int(received[at + 15 : end])


async def _send(port: int, path: str, connections: int, seconds: float, bodies: list[bytes]) -> Sent:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: "
    requests = itertools.cycle([f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies])
    tally = Tally()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), stopped.set)
    started = time.perf_counter()
    made = [
        await loop.create_connection(lambda: Sender(requests, tally), "127.0.0.1", port) for _ in range(connections)
    ]
    with suppress(TimeoutError):
        await asyncio.wait_for(stopped.wait(), seconds)
    tally.stopping = True
    await asyncio.wait_for(asyncio.gather(*(sender.over for _, sender in made)), 10)
    seconds = time.perf_counter() - started
    taken = sorted(tally.taken)
    p50, p99 = (taken[int(len(taken) * share)] * 1e3 if taken else 0.0 for share in (0.5, 0.99))
    return Sent(len(taken), tally.failed, seconds, p50, p99)


def main() -> int:
    port, path, connections, seconds, bodies = sys.argv[1:]
    lines = Path(bodies).read_bytes().splitlines()
    sent = uvloop.run(_send(int(port), path, int(connections), float(seconds), lines))
    print(json.dumps(asdict(sent)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
