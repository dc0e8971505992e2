"""The replay itself: requests and labels stamped with their event time, and control told the hour."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec
import numpy as np
import polars as pl

from trueline.client import Client
from trueline.errors import TruelineError
from trueline.replaying.history import History, plain
from trueline.replaying.wire import Answer, Request, Wire
from trueline.web.api.events import EventView

EVENT_PAGE = 1000
MOMENT = timedelta(seconds=1)
AFTERMATH = timedelta(days=1)
"""After the last label's day, so that its block is judged."""


class Predicted(msgspec.Struct):
    predictions: list[float]
    prediction_ids: list[str]


class Watcher(Protocol):
    """Whoever looks on."""

    def ticked(self, now: datetime) -> None: ...
    def happened(self, event: EventView) -> None: ...


@dataclass(order=True)
class _Due:
    """Labels on their way."""

    at: datetime
    order: int
    labels: list[dict[str, Any]] = field(compare=False)


@dataclass
class Living:
    """Lives through a history against a running server, and keeps what was answered to each row."""

    client: Client
    wire: Wire
    history: History
    watcher: Watcher
    tick: timedelta
    delay: timedelta
    answers: list[float] = field(default_factory=list)  # one for each row lived through; NaN where it was refused
    refused: list[str] = field(default_factory=list)
    events: list[EventView] = field(default_factory=list)
    _seen: int = 0
    _due: datetime | None = None
    _late: list[_Due] = field(default_factory=list)

    def run(self) -> None:
        """Release the first model on what was known, then live through the rest."""
        self._release_first()
        now = self.history.begins
        for now, rows in self.history.ticks(self.tick):
            if rows.height:
                self._ask(rows, now)
            self._label(now)
            self._advance(now)
        end = now + self.delay + AFTERMATH
        while now < end:
            now += self.tick
            self._label(now)
            self._advance(now)

    def _release_first(self) -> None:
        begins = self.history.begins
        self.client.replay(begins)
        self.client.start_run(reason="the first model, on what was known before the replay")
        self._due = self.client.replay(begins + MOMENT).next_due
        self._look()
        if self._undecided():
            self.client.waive(
                1, "a replay begins with the first model, although the days before it are too few to judge it"
            )
            self._due = self.client.replay(begins + 2 * MOMENT).next_due
            self._look()
        if self.client.status().champion is None:
            told = [event.reason for event in self.events if event.kind in {"run.fail", "gate.decide"}]
            raise TruelineError(
                f"the first model was not released, so there is nothing to live through: {(told or ['nothing happened'])[-1]}"
            )

    def _undecided(self) -> bool:
        """Whether the first model's gate had too little to go on: in a replay that is no reason to stop before it begins."""
        gates = self.client.gates(version=1, limit=1).items
        return bool(gates) and gates[0].verdict == "inconclusive"

    def _advance(self, now: datetime) -> None:
        if self._due is None or now >= self._due:
            self._due = self.client.replay(now).next_due
            self._look()
        self.watcher.ticked(now)

    def _look(self) -> None:
        for event in happened_since(self.client, self._seen):
            self.events.append(event)
            self.watcher.happened(event)
            self._seen = event.id

    def _ask(self, rows: pl.DataFrame, now: datetime) -> None:
        """Each row is a request: what a release must see before it goes on is counted in requests."""
        asked = [question(row, self.history.time) for row in rows.drop(self.history.target).iter_rows(named=True)]
        known = [self._book(answer) for answer in self.wire.post(asked)]
        labels = [
            {"prediction_id": prediction, "value": float(value), "source": "replay"}
            for prediction, value in zip(known, self.history.labels(rows), strict=True)
            if prediction is not None and np.isfinite(value)
        ]
        if labels:
            heapq.heappush(self._late, _Due(now + self.delay, len(self.answers), labels))

    def _book(self, answer: Answer) -> str | None:
        """Keep an answer; the id that its label is told with."""
        if answer.status != 200:
            self.refused.append(f"{answer.status}: {answer.body.decode(errors='replace')[:300]}")
            self.answers.append(float("nan"))
            return None
        told = msgspec.json.decode(answer.body, type=Predicted, strict=False)
        self.answers += told.predictions
        return told.prediction_ids[0]

    def _label(self, now: datetime) -> None:
        """Post the labels whose time has come."""
        ready: list[Request] = []
        while self._late and self._late[0].at <= now:
            due = heapq.heappop(self._late)
            body = msgspec.json.encode({"labels": due.labels})
            ready.append(Request("/labels", body, (("X-Trueline-Event-Time", stamp(due.at)),)))
        for answer in self.wire.post(ready):
            if answer.status != 200:
                self.refused.append(f"labels, {answer.status}: {answer.body.decode(errors='replace')[:300]}")


def happened_since(client: Client, seen: int) -> Iterator[EventView]:
    """Every event behind the one of this number, page by page."""
    whole = True
    while whole:
        page = client.events(after=seen, limit=EVENT_PAGE)
        yield from page.items
        seen, whole = page.next, len(page.items) == EVENT_PAGE


def question(row: dict[str, Any], time: str) -> Request:
    """A row as a request at its own moment."""
    body = msgspec.json.encode({name: plain(value) for name, value in row.items()})
    return Request("/predict", body, (("X-Trueline-Event-Time", stamp(row[time])),))


def stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
