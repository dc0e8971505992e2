"""A lane in simulated time: the rules of batching.py around a model whose batches take what a function says.

Nothing waits and nothing is random unless the test says so; a minute of overload takes less than a second.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from trueline.serving.admission import Admission

NS = 1_000_000_000


@dataclass
class Outcome:
    """What became of each request: (arrived, latency) of the answered, arrival times of the others, in seconds."""

    answered: list[tuple[float, float]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    expired: list[float] = field(default_factory=list)
    batches: list[tuple[int, float]] = field(default_factory=list)

    def latencies(self, begin: float = 0.0, end: float = float("inf")) -> list[float]:
        return sorted(latency for arrived, latency in self.answered if begin <= arrived < end)

    def p99(self, begin: float = 0.0, end: float = float("inf")) -> float:
        found = self.latencies(begin, end)
        return found[int(0.99 * (len(found) - 1))]

    def lost(self, begin: float = 0.0, end: float = float("inf")) -> int:
        return sum(begin <= one < end for one in (*self.refused, *self.expired))


def simulate(
    arrivals: Iterable[float],
    seconds: Callable[[int], float],
    *,
    rows: int = 1,
    batch_seconds: float = 0.9,
    batch_rows: int = 1024,
    retry: Callable[[float, bool], float | None] = lambda now, answered: None,  # noqa: ARG005
) -> Outcome:
    """Requests arrive at these seconds, each of so many rows; `retry` says when who was answered (or not) comes again."""
    lane = Lane(Admission(batch_seconds=batch_seconds, batch_rows=batch_rows), seconds, rows, list(arrivals), retry)
    heapq.heapify(lane.coming)
    while lane.coming or lane.waiting or lane.out:
        if lane.out and (not lane.coming or lane.back <= lane.coming[0]):
            now = lane.back
            lane.answer()
        else:
            now = heapq.heappop(lane.coming)
            lane.arrive(now)
        if not lane.out and lane.waiting and not (lane.coming and lane.coming[0] <= now):
            lane.take(now)
    return lane.outcome


@dataclass
class Lane:
    door: Admission
    seconds: Callable[[int], float]
    rows: int
    coming: list[float]
    retry: Callable[[float, bool], float | None]
    waiting: deque[float] = field(default_factory=deque)
    out: list[float] = field(default_factory=list)  # the batch that is being scored
    took: float = 0.0
    back: float = 0.0
    outcome: Outcome = field(default_factory=Outcome)

    def arrive(self, now: float) -> None:
        if self.door.room > 0:
            self.door.room -= self.rows
            self.waiting.append(now)
            return
        self.door.refuse()
        self.outcome.refused.append(now)
        self._again(now, answered=False)

    def answer(self) -> None:
        out, self.out = self.out, []
        self.door.done(len(out) * self.rows, len(out), self.back - self.took)
        for arrived in out:
            self.outcome.answered.append((arrived, self.back - arrived))
            self._again(self.back, answered=True)

    def take(self, now: float) -> None:
        waiting, out, door = self.waiting, self.out, self.door
        while waiting and (now - waiting[0]) * NS > door.patience_ns:
            self.outcome.expired.append(waiting.popleft())
            self._again(now, answered=False)
        newest = waiting and (now - waiting[0]) * NS > door.fresh_ns
        while waiting and (not out or (len(out) + 1) * self.rows <= door.rows):
            out.append(waiting.pop() if newest else waiting.popleft())
        many = len(out) * self.rows
        door.took(many, len(waiting) * self.rows, int(now * NS))
        if out:
            self.outcome.batches.append((many, now))
            self.took, self.back = now, now + self.seconds(many)

    def _again(self, now: float, *, answered: bool) -> None:
        at = self.retry(now, answered)
        if at is not None:
            heapq.heappush(self.coming, at)
