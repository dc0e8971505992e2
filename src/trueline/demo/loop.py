"""The year, replayed as a discrete-event simulation against the running server.

A tick is three hours of event time. Within it flights ask before they leave and labels come in when they land, each
stamped with its own time; when something is due, control is told the hour and answers when nothing is left to do at
it. So what the replay shows does not depend on how fast the machine is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Protocol

import msgspec

from trueline.client import Client
from trueline.demo.flights import END, START, Flight
from trueline.demo.ledger import Ledger
from trueline.demo.planted import FEED, PLANS, Feed, Push
from trueline.errors import TruelineError
from trueline.replaying.living import happened_since, stamp
from trueline.replaying.wire import Answer, Request, Wire
from trueline.web.api.events import EventView

TICK = timedelta(hours=3)
ROWS = 8  # flights of one minute that share a request
AFTERMATH = timedelta(days=3)  # the last labels come in, the last blocks are judged
MOMENT = timedelta(seconds=1)  # what a person did is worked off at a time of its own


class Predicted(msgspec.Struct):
    predictions: list[float]
    prediction_ids: list[str]
    version: int


class Labelled(msgspec.Struct):
    accepted: int


class Watcher(Protocol):
    """Whoever looks on while the year goes by."""

    def ticked(self, now: datetime) -> None: ...
    def happened(self, event: EventView) -> None: ...


@dataclass
class Replay:
    client: Client
    wire: Wire
    ledger: Ledger
    watcher: Watcher
    tick: timedelta = TICK
    pace: float = 0.0  # seconds of an onlooker's time for a day of the replay
    until: datetime = END
    pushes: list[Push] = field(default_factory=lambda: [Push(plan) for plan in PLANS])
    feed: Feed = FEED
    events: list[EventView] = field(default_factory=list)
    _seen: int = 0
    _due: datetime | None = None  # when control has something to do next, as far as it said

    def run(self) -> None:
        """Release the first model on what January left, then live through the rest of the year."""
        self._release_first()
        departures, landings = schedule(self.ledger.flights, self.tick)
        for now in ticks(self.until + AFTERMATH, self.tick):
            began = time.monotonic()
            flights, landed = departures.get(now, []), landings.get(now, [])
            if flights:
                self._ask(flights)
            if landed:
                self._label(landed)
            if self._is_due(now):
                self._advance(now)
            if self.pace:
                share = self.tick / timedelta(days=1)
                time.sleep(max(0.0, self.pace * share - (time.monotonic() - began)))

    def _is_due(self, now: datetime) -> bool:
        """Whether control, a planted push or the onlooker has something to do at this tick."""
        waiting = self._due is None or now >= self._due
        return waiting or now.hour == 0 or any(push.waits(now) for push in self.pushes)

    def _release_first(self) -> None:
        self.client.replay(START)
        if self.client.status().champion is None:
            self.client.start_run(reason="the first model, on January")
        self._advance(START + MOMENT)
        if self.client.status().champion is None:
            said = self.events[-1].reason if self.events else "nothing happened"
            raise TruelineError(f"the first model was not released, so there is nothing to replay against: {said}")

    def _advance(self, now: datetime) -> None:
        """Tell control the time until neither it nor a planted push has anything left to do at it."""
        self._due = self.client.replay(now).next_due
        self._look()
        for push in self.pushes:
            while push.step(self.client, now):
                now += MOMENT
                self._due = self.client.replay(now).next_due
                self._look()
        self.watcher.ticked(now)

    def _look(self) -> None:
        for event in happened_since(self.client, self._seen):
            self.events.append(event)
            self.watcher.happened(event)
            self._seen = event.id

    def _ask(self, flights: Sequence[Flight]) -> None:
        groups = list(together(flights))
        for group, answer in zip(groups, self.wire.post([question(group, self.feed) for group in groups]), strict=True):
            self._book(group, answer)

    def _book(self, group: Sequence[Flight], answer: Answer) -> None:
        if answer.status != 200:
            self.ledger.refused.append(f"{answer.status}: {answer.body.decode(errors='replace')[:300]}")
            return
        told = msgspec.json.decode(answer.body, type=Predicted, strict=False)
        for flight, prediction, known_as in zip(group, told.predictions, told.prediction_ids, strict=True):
            self.ledger.answered(flight, prediction, told.version, known_as)

    def _label(self, landed: Sequence[Flight]) -> None:
        known = self.ledger.prediction_ids
        labels = [
            {"prediction_id": known[flight.number], "value": flight.air_time, "source": "landing"}
            for flight in landed
            if flight.number in known
        ]
        if not labels:
            return
        arrived = max(flight.landed for flight in landed if flight.landed is not None)
        request = Request(
            "/labels", msgspec.json.encode({"labels": labels}), (("X-Trueline-Event-Time", stamp(arrived)),)
        )
        answer = self.wire.post([request])[0]
        if answer.status != 200:
            self.ledger.refused.append(f"labels, {answer.status}: {answer.body.decode(errors='replace')[:300]}")
            return
        self.ledger.labelled += msgspec.json.decode(answer.body, type=Labelled).accepted


def schedule(
    flights: Sequence[Flight], tick: timedelta
) -> tuple[dict[datetime, list[Flight]], dict[datetime, list[Flight]]]:
    """Flights by the tick that they leave in, and by the tick that they land in, each in order of its time."""
    leaving = _by_tick(flights, tick, lambda flight: flight.scheduled)
    landing = [flight for flight in flights if flight.landed is not None]
    return leaving, _by_tick(landing, tick, lambda flight: flight.landed)


def _by_tick(
    flights: Sequence[Flight], tick: timedelta, when: Callable[[Flight], datetime | None]
) -> dict[datetime, list[Flight]]:
    found: dict[datetime, list[Flight]] = {}
    for moment, flight in sorted(
        ((when(flight) or END, flight) for flight in flights), key=lambda pair: (pair[0], pair[1].number)
    ):
        found.setdefault(START + ((moment - START) // tick + 1) * tick, []).append(flight)
    return found


def ticks(until: datetime, tick: timedelta) -> Iterator[datetime]:
    now = START
    while (now := now + tick) <= until:
        yield now


def together(flights: Sequence[Flight]) -> Iterator[list[Flight]]:
    """Flights of the same minute, a few at a time."""
    for _, same in groupby(flights, key=lambda flight: flight.scheduled):
        group = list(same)
        yield from (group[first : first + ROWS] for first in range(0, len(group), ROWS))


def question(group: Sequence[Flight], feed: Feed) -> Request:
    headers = (("X-Trueline-Event-Time", stamp(group[0].scheduled)), ("X-Request-Id", f"flight-{group[0].number}"))
    return Request("/predict", msgspec.json.encode({"instances": [feed.row(flight) for flight in group]}), headers)
