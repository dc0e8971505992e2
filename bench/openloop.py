"""Requests that come when they come: sent at random moments of a given rate, whether or not earlier ones are answered.

As many connections as that takes are kept open. A latency counts from the moment the request was due, so what waits in
this process counts too. Run as a process of its own: `python bench/openloop.py PORT PATH PLAN BODY`, where PLAN is JSON,
`[[requests per second, seconds], …]`. Prints `[[due, latency, status, retry-after or null], …]`, times in seconds;
status 0 is a connection that ended without an answer.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import uvloop

CONNECTIONS = 4000
_HEAD = re.compile(rb"HTTP/1\.1 (\d+) .*?\r\n\r\n", re.DOTALL)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_RETRY = re.compile(rb"retry-after: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Reply:
    due: float
    latency: float
    status: int
    retry_after: int | None


def start(port: int, path: str, plan: Sequence[tuple[float, float]], body: bytes) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, str(port), path, json.dumps(plan), body.decode()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> list[Reply]:
    told, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("the load could not be sent; the reason is above")
    return [Reply(*one) for one in json.loads(told)]


class Sender(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self._due: float | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, due: float) -> None:
        self._due = due
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = _HEAD.match(self._received)
        if head is None or self._due is None:
            return
        length = _LENGTH.search(head[0])
        end = head.end() + (int(length[1]) if length else 0)
        if len(self._received) < end:
            return
        retry = _RETRY.search(head[0])
        self._received = b""
        due, self._due = self._due, None
        self._load.answered(due, int(head[1]), int(retry[1]) if retry else None)
        self._load.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._due is not None:
            self._load.answered(self._due, 0, None)
        elif self in self._load.idle:
            self._load.idle.remove(self)
        self._load.connections -= 1


class Load:
    def __init__(self, port: int, path: str, body: bytes) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.request = head.encode() + body
        self.idle: list[Sender] = []
        self.connections = 0
        self.replies: list[tuple[float, float, int, int | None]] = []
        self._port = port
        self._begin = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, plan: Sequence[tuple[float, float]]) -> None:
        moments = _moments(plan)
        self._begin = time.perf_counter() + 0.1
        for due in moments:
            while (early := self._begin + due - time.perf_counter()) > 0:  # noqa: ASYNC110  a moment, not an event
                await asyncio.sleep(early)
            self._send(due)
        patience = moments[-1] + 20
        while len(self.replies) < len(moments) and time.perf_counter() - self._begin < patience:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    def answered(self, due: float, status: int, retry_after: int | None) -> None:
        self.replies.append((due, time.perf_counter() - self._begin - due, status, retry_after))

    def _send(self, due: float) -> None:
        if self.idle:
            self.idle.pop().send(due)
        elif self.connections < CONNECTIONS:
            self.connections += 1
            task = asyncio.get_running_loop().create_task(self._connect(due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self.answered(due, 0, None)

    async def _connect(self, due: float) -> None:
        try:
            _, sender = await asyncio.get_running_loop().create_connection(
                lambda: Sender(self), "127.0.0.1", self._port
            )
        except OSError:
            self.connections -= 1
            self.answered(due, 0, None)
        else:
            sender.send(due)


def _moments(plan: Sequence[tuple[float, float]]) -> list[float]:
    dice = random.Random(1)  # the same load each time
    moments, begin = [], 0.0
    for rate, seconds in plan:
        now = begin
        while (now := now + dice.expovariate(rate)) < begin + seconds:
            moments.append(now)
        begin += seconds
    return moments


def main() -> int:
    port, path, plan, body = sys.argv[1:]
    replies: list[Any] = []

    async def run() -> None:
        load = Load(int(port), path, body.encode())
        await load.run(json.loads(plan))
        replies.extend(load.replies)

    uvloop.run(run())
    json.dump(replies, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
