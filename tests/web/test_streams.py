"""The log as it grows: nothing lost, nothing twice, nobody held up."""

import asyncio
import json

import pytest

from trueline.errors import Unavailable
from trueline.web import streams
from trueline.web.api.calls import Following
from trueline.web.api.in_memory import InMemoryServices
from trueline.web.streams import Streams

PATIENCE = 10.0


class Growing(InMemoryServices):
    """Events come when a test says so."""

    def grow(self, *reasons):
        for reason in reasons:
            self._record("run.create", "run-1", "ada", reason)

    @property
    def failing(self):
        return self.sick is not None

    def events(self, *, after, limit, kind):
        if self.failing:
            raise Unavailable(self.sick)
        return super().events(after=after, limit=limit, kind=kind)

    def newest_event(self):
        if self.failing:
            raise Unavailable(self.sick)
        return super().newest_event()


class Reader:
    """A client of one stream."""

    def __init__(self, opened, follow):
        self.sent = bytearray()
        self.status = None
        self.ended = False
        self.taking = asyncio.Event()
        self.taking.set()
        self._gone = asyncio.Event()
        self.task = asyncio.create_task(opened.serve(follow, self._receive, self._send))

    async def _receive(self):
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        await self.taking.wait()
        self.status = message.get("status", self.status)
        self.sent += message.get("body", b"")
        self.ended = self.ended or (message["type"] == "http.response.body" and not message.get("more_body"))

    async def leave(self):
        self._gone.set()
        await asyncio.wait_for(self.task, PATIENCE)

    @property
    def events(self):
        blocks = [block for block in self.sent.decode().split("\n\n") if block.startswith("id: ")]
        return [(int(b.split("\n")[0][4:]), json.loads(b.split("\n")[1][6:])) for b in blocks]

    @property
    def ids(self):
        return [number for number, _ in self.events]

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 conditions of any kind, of another task
                await asyncio.sleep(0.002)


@pytest.fixture
def log():
    return Growing()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(streams, "POLL_SECONDS", 0.005)


async def run(call, *given):
    return await asyncio.to_thread(call, *given)


def live(scenario):
    """Run a scenario in an event loop."""

    def test(log):
        asyncio.run(scenario(log))

    test.__name__ = scenario.__name__
    return test


@live
async def test_a_stream_tells_what_comes_and_not_what_was(log):
    log.grow("before")
    opened = Streams(log, run)
    reader = Reader(opened, Following())
    await reader.until(opened._known.is_set)
    log.grow("one", "two")
    await reader.until(lambda: len(reader.ids) == 2)
    assert reader.status == 200
    assert reader.sent.startswith(b"retry: 1000\n\n")
    assert [(number, event["reason"]) for number, event in reader.events] == [(2, "one"), (3, "two")]
    await reader.leave()


@live
async def test_who_was_away_goes_on_where_it_was(log):
    log.grow(*map(str, range(450)))  # more than a batch holds
    opened = Streams(log, run)
    reader = Reader(opened, Following(after=3))
    await reader.until(lambda: len(reader.ids) == 447)
    log.grow("new")
    await reader.until(lambda: len(reader.ids) == 448)
    assert reader.ids == list(range(4, 452))
    await reader.leave()


@live
async def test_a_place_in_another_log_means_from_now_on(log):
    log.grow("old")
    opened = Streams(log, run)
    reader = Reader(opened, Following(after=1000))

    def told():
        log.grow("new")
        return len(reader.ids) > 2

    await reader.until(told)
    assert reader.ids == list(range(reader.ids[0], reader.ids[-1] + 1))
    assert reader.ids[0] > 1
    await reader.leave()


@live
async def test_only_the_kind_that_was_asked_for(log):
    opened = Streams(log, run)
    reader = Reader(opened, Following(after=0, kind="gate"))
    log.grow("a run")
    log._record("gate.decide", "gate-1", "worker", "fine")
    log.grow("a run")
    log._record("gate.decide", "gate-2", "worker", "fine")
    await reader.until(lambda: len(reader.ids) == 2)
    assert reader.ids == [2, 4]
    await reader.leave()


@live
async def test_a_number_that_was_never_given_out_holds_up_nobody(log):
    opened = Streams(log, run)
    reader = Reader(opened, Following(after=0))
    log.grow("first", "rolled back", "third")
    log.shelf_events.pop(1)
    await reader.until(lambda: reader.ids == [1, 3])
    await reader.leave()


@live
async def test_a_reader_that_takes_nothing_holds_up_nobody_and_misses_nothing(log):
    opened = Streams(log, run)
    slow, quick = Reader(opened, Following(after=0)), Reader(opened, Following(after=0))
    slow.taking.clear()
    log.grow(*map(str, range(500)))
    await quick.until(lambda: len(quick.ids) == 500)
    assert slow.ids == []
    slow.taking.set()
    await slow.until(lambda: len(slow.ids) == 500)
    assert slow.ids == quick.ids == list(range(1, 501))
    await slow.leave()
    await quick.leave()


@live
async def test_a_database_that_is_away_is_waited_for(log):
    opened = Streams(log, run)
    reader = Reader(opened, Following(after=0))
    log.grow("one")
    await reader.until(lambda: reader.ids == [1])
    log.sick = "the database cannot be used now"
    log.grow("two")
    await asyncio.sleep(0.02)
    log.sick = None
    await reader.until(lambda: len(reader.ids) == 2)
    assert not reader.ended
    await reader.leave()


@live
async def test_the_end_of_the_server_ends_every_stream_at_once(log):
    opened = Streams(log, run)
    readers = [Reader(opened, Following()) for _ in range(3)]
    await readers[0].until(opened._known.is_set)
    opened.close()
    await asyncio.wait_for(asyncio.gather(*(reader.task for reader in readers)), PATIENCE)
    assert all(reader.ended for reader in readers)


@live
async def test_readers_are_counted_and_the_watch_ends_with_the_last(log):
    opened = Streams(log, run, limit=2)
    readers = [Reader(opened, Following()) for _ in range(2)]
    await readers[0].until(lambda: opened.full)
    for reader in readers:
        await reader.leave()
    assert not opened.full
    watcher = opened._watcher
    if watcher is not None:
        await asyncio.wait_for(watcher, PATIENCE)
    again = Reader(opened, Following(after=0))
    log.grow("after a pause")
    await again.until(lambda: again.ids == [1])
    await again.leave()


@live
async def test_a_quiet_stream_says_that_it_is_there(log):
    streams.BEAT_SECONDS, usual = 0.01, streams.BEAT_SECONDS
    try:
        opened = Streams(log, run)
        reader = Reader(opened, Following())
        await reader.until(lambda: b": still here\n\n" in reader.sent)
        await reader.leave()
    finally:
        streams.BEAT_SECONDS = usual
