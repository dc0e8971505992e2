"""Batches of what arrived together: requests of one turn of the event loop are scored at once, and nobody waits.

A lane belongs to one version. A request that arrives asks for a flush at the next turn of the loop; by then every
socket that was readable in this turn has been read. While a batch is out (a version in a child process), arrivals
gather and go together when it comes back. How many may gather, how large a batch gets, and when somebody has waited too
long to be scored at all, the lane's `door` says (admission.py). A turn takes one batch: between two of a slow version
the sockets are read, so that whoever cannot be answered hears it at once. Shadow scores are the lane's second queue: gathered for a few milliseconds,
taken only when no request waits, bounded, and given up first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from time import perf_counter_ns
from typing import Any, Protocol

import msgspec

from trueline.journal.records import Outcome
from trueline.serving import plain
from trueline.serving.admission import Admission
from trueline.serving.limits import Limits
from trueline.serving.metrics import Metrics
from trueline.serving.plain import Tuples
from trueline.serving.runners import Batch, Columns, Runner, Scored


class Item(Protocol):
    """What a lane needs to know of a request or a shadow score."""

    rows: int
    event_us: int
    queued_ns: int  # when it came to this lane (perf_counter_ns)

    @property
    def columns(self) -> Columns: ...

    def tuples(self, names: tuple[str, ...]) -> Tuples | None:
        """The rows as values in this order of columns, when that costs little."""


class Share(msgspec.Struct, frozen=True, gc=False):
    """What became of one item: its part of what became of the batch."""

    outcome: Outcome
    outputs: list[float] | None
    error: str | None
    exec_us: int
    separable: bool = False
    unscored: bool = False  # it waited for too long to be scored at all


log = logging.getLogger(__name__)

_TURN_SECONDS = 0.0005
"""For each such time that the loop stood still it turns once before the next batch: it accepts one connection a turn, and
those of a crowd that came meanwhile would wait where nobody sees them."""
_MOST_TURNS = 64

Settle = Callable[[int, Sequence[Any], Sequence[Share], int], None]
"""Takes version, items, what became of each, and when their batch started (perf_counter_ns). Never raises."""


class Lane:
    def __init__(
        self, version: int, runner: Runner, *, settle: Settle, settle_shadow: Settle, metrics: Metrics, limits: Limits
    ) -> None:
        self.version = version
        self._runner = runner
        known = plain.of(runner.signature.inputs)
        self._names = (
            runner.signature.names if known is None else known.names
        )  # the very object: compared for each request
        self._settle = settle
        self._settle_shadow = settle_shadow
        self._metrics = metrics
        self._limits = limits
        self.door = Admission(batch_seconds=limits.batch_seconds, batch_rows=limits.batch_rows)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Item] = deque()
        self._alone: deque[tuple[Item, Settle]] = deque()  # of a batch that was refused: each for itself
        self._shadows: deque[Item] = deque()
        self._shadows_in = self._shadows_out = 0
        self._barriers: list[tuple[int, asyncio.Future[None]]] = []
        self._out = False  # a batch is being scored
        self._calling = False  # the runner is at work inside this process, and the loop stands still
        self._turns = 0  # of the loop before the next batch
        self._flush_due = False
        self._shadow_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        return not (self._out or self._waiting or self._alone or self._shadows)

    @property
    def owed(self) -> int:
        """Shadow scores that are still to come."""
        return self._shadows_in - self._shadows_out

    def add(self, item: Item) -> None:
        self.door.room -= item.rows
        self._waiting.append(item)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def add_shadow(self, item: Item) -> None:
        """Owe a shadow score; dropped and counted when too many are owed already."""
        if len(self._shadows) >= self._limits.shadow_waiting:
            self._metrics.shadow_dropped[self.version] += 1
            return
        self._shadows.append(item)
        self._shadows_in += 1
        if self._shadow_timer is None:
            self._shadow_timer = self._loop.call_later(self._limits.shadow_seconds, self._flush_shadows)

    async def drain_shadows(self) -> None:
        """Return when every shadow score owed by now has been journalled."""
        if self.owed:
            barrier: asyncio.Future[None] = self._loop.create_future()
            self._barriers.append((self._shadows_in, barrier))
            self._loop.call_soon(self._flush_shadows)
            await barrier

    def _flush(self) -> None:
        if self._turns:  # see _TURN_SECONDS
            self._turns -= 1
            self._loop.call_soon(self._flush)
            return
        self._flush_due = False
        if self._out:
            return
        if self._alone:
            item, settle = self._alone.popleft()
            self._score([item], settle, perf_counter_ns())
        elif self._waiting:
            self._score_waiting(perf_counter_ns())

    def _score_waiting(self, now: int) -> None:
        waiting, door = self._waiting, self.door
        late = now - waiting[0].queued_ns > door.fresh_ns
        items = self._take_late(now) if late else self._take(waiting, door.rows)
        left = sum([item.rows for item in waiting]) if waiting else 0
        door.took(sum([item.rows for item in items]), left, now)
        if items:
            self._score(items, self._settle, now)

    def _take_late(self, now: int) -> list[Item]:
        """The next batch when somebody has waited for long: without those whose time is over, maybe newest first."""
        waiting, door = self._waiting, self.door
        if now - waiting[0].queued_ns > door.patience_ns:
            self._give_up(now)
        if not waiting:
            return []
        if now - waiting[0].queued_ns <= door.fresh_ns:
            return self._take(waiting, door.rows)
        waiting.reverse()
        items = self._take(waiting, door.rows)
        waiting.reverse()
        items.reverse()  # who has waited for longest is the first of a batch
        return items

    def _give_up(self, now: int) -> None:
        """Those who have waited longer than it makes sense to wait are not scored any more."""
        waiting, oldest = self._waiting, now - self.door.patience_ns
        late: list[Item] = []
        while waiting and waiting[0].queued_ns < oldest:
            late.append(waiting.popleft())
        seconds = (now - late[0].queued_ns) / 1e9
        share = Share("timed_out", None, f"its turn did not come within {seconds:.3g} s", 0, unscored=True)
        self._tell(self._settle, late, [share] * len(late), now)

    def _flush_shadows(self) -> None:
        if self._shadow_timer is not None:
            self._shadow_timer.cancel()
            self._shadow_timer = None
        if self._out or self._waiting or self._alone:
            self._rest_later()
        elif self._shadows:
            most = min(self._limits.shadow_rows, self.door.rows)
            self._score(self._take(self._shadows, most), self._settle_shadow, perf_counter_ns())

    def _rest_later(self) -> None:
        """Come back for what is left: at once when somebody waits for it, else when requests had their turn."""
        if self._shadows and self._shadow_timer is None:
            wait = 0.001 if self._barriers else self._limits.shadow_seconds
            self._shadow_timer = self._loop.call_later(wait, self._flush_shadows)

    def _take(self, queue: deque[Item], most: int) -> list[Item]:
        items = [queue.popleft()]
        rows = items[0].rows
        while queue and rows + queue[0].rows <= most:
            rows += queue[0].rows
            items.append(queue.popleft())
        return items

    def _score(self, items: list[Item], settle: Settle, now: int) -> None:
        self._out = True
        batch = self._batch(items)
        if settle == self._settle:
            batch.waited_ns = now - items[0].queued_ns
        self._metrics.batch[self.version].observe(batch.rows)
        self._calling = True
        self._runner.run(batch, partial(self._done, items, settle, now, batch.rows))
        self._calling = False

    def _batch(self, items: list[Item]) -> Batch:
        names, first = self._names, items[0]
        rows: Tuples = []
        for item in items:
            more = item.tuples(names)
            if more is None:
                break
            rows += more
        else:
            return Batch(None, len(rows), len(items), first.event_us, tuples=rows, names=names)
        if len(items) == 1:
            return Batch(first.columns, first.rows, 1, first.event_us)
        columns = {name: [value for item in items for value in item.columns[name]] for name in names}
        return Batch(columns, sum(item.rows for item in items), len(items), first.event_us)

    def _done(self, items: list[Item], settle: Settle, started: int, rows: int, scored: Scored) -> None:
        self._out = False
        self._metrics.execution[self.version].observe(scored.exec_us / 1e6)
        if scored.separable and len(items) > 1:  # one bad request must not fail its neighbours
            self._alone.extend((item, settle) for item in items)
        else:
            self._tell(settle, items, _parts(items, scored), started)
            if settle == self._settle_shadow:
                self._shadows_settled(len(items))
        seconds = (perf_counter_ns() - started) / 1e9
        if scored.values is not None:
            self.door.done(rows, len(items), seconds)
        elif scored.outcome == "timed_out":
            self.door.late(rows)
        if (self._waiting or self._alone) and not self._flush_due:
            self._flush_due = True
            self._turns = min(int(seconds / _TURN_SECONDS), _MOST_TURNS) if self._calling else 0
            self._loop.call_soon(self._flush)
        self._rest_later()

    def _tell(self, settle: Settle, items: list[Item], shares: list[Share], started: int) -> None:
        try:
            settle(self.version, items, shares, started)
        except Exception:  # a lane that stood still would answer nobody any more
            log.exception("a defect in trueline, while version %d answered", self.version)

    def _shadows_settled(self, count: int) -> None:
        self._shadows_out += count
        while self._barriers and self._barriers[0][0] <= self._shadows_out:
            _, barrier = self._barriers.pop(0)
            if not barrier.done():
                barrier.set_result(None)


def _parts(items: list[Item], scored: Scored) -> list[Share]:
    """Each request's share of a batch; a value that is not finite spoils only the request it is in."""
    values, exec_us = scored.values, scored.exec_us
    if values is None:
        return [Share(scored.outcome, None, scored.error, exec_us, scored.separable)] * len(items)
    numbers = values.tolist()
    finite = isfinite(sum(numbers))  # of finite numbers that overflow it is not: then each is looked at
    if finite and len(numbers) == len(items):
        return [Share("answered", [number], None, exec_us) for number in numbers]
    parts: list[Share] = []
    start = 0
    for item in items:
        share = numbers[start : start + item.rows]
        wrong = None if finite else next((row for row, number in enumerate(share) if not isfinite(number)), None)
        if wrong is None:
            parts.append(Share("answered", share, None, exec_us))
        else:
            error = f"the model gave {share[wrong]} at row {wrong}, expected a finite number"
            parts.append(Share("invalid_output", None, error, exec_us))
        start += item.rows
    return parts
