"""The event log as it grows, to many readers at once.

One watcher asks the database a few times a second for its newest event, as long as anybody reads; that finds what any
control process on the database wrote. Each reader keeps only its place in the log and fetches from there, so a slow one
costs nothing but its own lateness. A place is enough because writers take turns: events are committed in the order of
their ids (docs/decisions/0009), so nothing ever appears behind a reader.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec
from starlette.types import Receive, Send

from trueline.domain.events import Event
from trueline.errors import TruelineError
from trueline.web.api.calls import EVENT_STREAM, Following, view
from trueline.web.api.events import EventView

log = logging.getLogger("trueline.api")

LIMIT = 64
"""Streams open at once; each is a connection."""

POLL_SECONDS = 0.3
BEAT_SECONDS = 15.0
BATCH = 200

HEADERS = [
    (b"content-type", EVENT_STREAM.encode() + b"; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),  # what nginx needs to be told
]


class Log(Protocol):
    """What is read: the part of `Services` that streams need."""

    def events(self, *, after: int, limit: int, kind: str | None) -> Sequence[Event]: ...

    def newest_event(self) -> int: ...


class Streams:
    """Every open stream of one server; `run` calls a blocking function in a thread."""

    def __init__(self, source: Log, run: Callable[..., Awaitable[Any]], *, limit: int = LIMIT) -> None:
        self._source = source
        self._run = run
        self._limit = limit
        self._bells: set[asyncio.Event] = set()
        self._closing = asyncio.Event()
        self._known = asyncio.Event()
        self._newest = 0
        self._watcher: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        return len(self._bells) >= self._limit

    def close(self) -> None:
        """End every stream; their clients come back when somebody answers again."""
        self._closing.set()
        for bell in self._bells:
            bell.set()

    async def serve(self, follow: Following, receive: Receive, send: Send) -> None:
        """Send events until the client goes or the server stops."""
        bell = asyncio.Event()
        self._bells.add(bell)
        gone = asyncio.create_task(_gone(receive, bell))
        try:
            if self._watcher is None or self._watcher.done():
                self._watcher = asyncio.create_task(self._watch())
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await _say(send, b"retry: 1000\n\n")
            await self._follow(follow, bell, gone, send)
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._bells.discard(bell)
            gone.cancel()

    async def _follow(self, follow: Following, bell: asyncio.Event, gone: asyncio.Task[None], send: Send) -> None:
        place: int | None = None
        while not (gone.done() or self._closing.is_set()):
            bell.clear()
            if self._known.is_set():
                place = await self._begin(follow) if place is None else place
                place, more = await self._send_from(place, follow.kind, send)
                if more:
                    continue
            try:
                await asyncio.wait_for(bell.wait(), BEAT_SECONDS)
            except TimeoutError:
                await _say(send, b": still here\n\n")

    async def _begin(self, follow: Following) -> int:
        """Where a stream begins; an id that this log has not reached is another log's, and means from now on."""
        if follow.after is None:
            return self._newest
        if follow.after > self._newest:
            self._newest = max(self._newest, int(await self._run(self._source.newest_event)))
        return min(follow.after, self._newest)

    async def _send_from(self, place: int, kind: str | None, send: Send) -> tuple[int, bool]:
        """Send one batch; the new place, and whether there may be more at once."""
        newest = self._newest
        if place >= newest:
            return place, False
        try:
            found = await self._run(lambda: self._source.events(after=place, limit=BATCH, kind=kind))
        except TruelineError as problem:
            log.warning("a stream of events waits: %s", problem)
            return place, False
        if found:
            await _say(send, b"".join(encoded(event) for event in found))
        if len(found) == BATCH:
            return found[-1].id, True
        return max([newest, *(event.id for event in found[-1:])]), self._newest > newest

    async def _watch(self) -> None:
        """Find new events while anybody reads; the last reader's going ends it. The edge of a loop: it goes on."""
        while self._bells and not self._closing.is_set():
            try:
                await self._look()
            except TruelineError as problem:
                log.warning("the event log cannot be read now: %s", problem)
            except Exception:
                log.exception("a defect in trueline; looking again")
            await asyncio.sleep(POLL_SECONDS)
        self._watcher = None
        self._known.clear()

    async def _look(self) -> None:
        newest = int(await self._run(self._source.newest_event))
        if newest > self._newest or not self._known.is_set():
            self._newest = newest
            self._known.set()
            for bell in self._bells:
                bell.set()


def encoded(event: Event) -> bytes:
    """One event on the wire; JSON has no line breaks, so one `data` line is enough."""
    return b"id: %d\ndata: %s\n\n" % (event.id, msgspec.json.encode(view(event, EventView)))


async def _say(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _gone(receive: Receive, bell: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    bell.set()
