"""A version in a process of its own, so that a model that hangs, crashes or leaks costs nobody but itself.

One batch is out at a time. Its requests are answered when their deadline has passed, whatever the process does; a
process that has not come back when the batch's own time is over is killed and started again *without* that batch, and
so is one that dies or sends what is no answer. Until it is back, its requests are refused at once: the champion answers
them, or the caller is told to come again. A process that keeps dying, or cannot even start, is tried again with growing
pauses. One that takes too much memory is replaced by a fresh one that was started beside it, between two batches.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trueline.errors import PackagingFailed
from trueline.journal.records import Outcome
from trueline.packaging.signature import Signature
from trueline.serving import memory
from trueline.serving.life import Command, Life, how_it_ended
from trueline.serving.limits import Limits
from trueline.serving.pipe import Broken, FromChild, Ready, Values, Work, frame
from trueline.serving.runners import Batch, Done, Scored, judge

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
HEALTHY_SECONDS = 10.0  # a life of this length makes up for the deaths before it
_LOOK_SECONDS = 0.001


def command(folder: Path, digest: str) -> Command:
    """The command line of a child, given the descriptor of its end of the pipe."""
    return lambda descriptor: (
        sys.executable, "-m", "trueline.serving.child", str(descriptor), str(folder), digest,
    )  # fmt: skip


@dataclass(slots=True)
class _Out:
    """The batch that is with the process; `done` is None once its requests were answered without it."""

    number: int
    rows: int
    done: Done | None
    killed_at: float  # loop time


class Child:
    """A `Runner` in another process; `start` before use."""

    def __init__(
        self,
        signature: Signature,
        kind: str,
        command: Command,
        *,
        limits: Limits,
        restarted: Callable[[], None],
    ) -> None:
        self.signature = signature
        self.kind = kind
        self._command = command
        self._limits = limits
        self._restarted = restarted
        self._life: Life | None = None  # the process that is ready; None while there is none
        self._next: Life | None = None  # ready to take its place at the end of the batch
        self._tasks: set[asyncio.Task[None]] = set()  # starting and ending processes
        self._most: int | None = None  # bytes of memory
        self._look: asyncio.TimerHandle | None = None
        self._deaths = 0  # in a row, after short lives
        self._number = 0
        self._out: _Out | None = None
        self._deadline: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start the process and wait until the model is loaded; PackagingFailed when it cannot be."""
        self._adopt(await Life.begin(self._command, self._limits.start_seconds, self))

    @property
    def pid(self) -> int | None:
        return self._life.pid if self._life is not None else None

    def run(self, batch: Batch, done: Done) -> None:
        life = self._life
        if life is None:
            done(Scored("failed", None, "its process is being started again", 0))
            return
        if self._out is not None:
            done(Scored("timed_out", None, "its process is still busy with a batch that is overdue", 0))
            return
        self._number += 1
        tuples = batch.tuples if life.tuples else None
        try:
            data = frame(Work(self._number, batch.rows, None if tuples is not None else batch.columns, tuples))
        except (TypeError, ValueError, OverflowError) as problem:
            done(Scored("failed", None, f"it cannot be sent this: {problem}", 0, separable=True))
            return
        loop = asyncio.get_running_loop()
        allowed = self._limits.batch_seconds
        self._out = _Out(self._number, batch.rows, done, loop.time() + allowed)
        self._deadline = loop.call_later(max(0.0, allowed - batch.waited_ns / 1e9), self._due)
        life.send(data)

    async def close(self) -> None:
        for task in tuple(self._tasks):
            if not task.get_name().startswith("end"):
                task.cancel()
        while (
            self._tasks or self._life is not None or self._next is not None
        ):  # a start may be over just before its end
            lives = [one for one in (self._life, self._next) if one is not None]
            self._life = self._next = None
            self._settle(Scored("failed", None, "the version was unloaded", 0))
            for life in lives:
                await life.end()
            if self._tasks:
                await asyncio.wait(tuple(self._tasks))
        if self._look is not None:
            self._look.cancel()

    def received(self, life: Life, message: FromChild) -> None:
        """Called by the pipe for each answer."""
        out = self._out
        if life is not self._life:
            return
        if out is None or isinstance(message, Ready | Broken) or message.number != out.number:
            self._renew("failed", "it answered what it was not asked")
        elif isinstance(message, Values):
            if len(message.data) != 8 * out.rows:
                self._renew("invalid_output", f"it sent {len(message.data)} bytes for {out.rows} rows")
            else:
                self._settle(judge(np.frombuffer(message.data, dtype=np.float64), out.rows, message.exec_us))
        elif message.outcome == "failed":
            self._settle(Scored("failed", None, message.error, message.exec_us, separable=True))
            if message.error.startswith("MemoryError"):
                self._replace("an allocation failed")
        else:
            self._settle(Scored("invalid_output", None, message.error, message.exec_us))

    def lost(self, life: Life, why: str) -> None:
        """Called when the process is gone, or makes no sense."""
        if life is self._life:
            self._renew("failed", why)
        elif life is self._next:
            self._next = None
            self._in_background(self._bury(life, why), "end")

    # -- the batch

    def _due(self) -> None:
        """A deadline has passed. After a stall of this loop timers may come first: an answer that is there is read before."""
        self._deadline = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._late)

    def _late(self) -> None:
        """The deadline of the requests, and then of the process, has passed."""
        out, loop = self._out, asyncio.get_running_loop()
        if out is None:
            return
        allowed = self._limits.batch_seconds
        if loop.time() < out.killed_at - 1e-3:
            done, out.done = out.done, None
            self._deadline = loop.call_at(out.killed_at, self._due)
            if done is not None:
                done(Scored("timed_out", None, f"it gave no answer within {allowed:g} s of the request", 0))
        else:
            self._renew("timed_out", f"it gave no answer within {allowed:g} s and its process was killed")

    def _settle(self, scored: Scored) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        out, self._out = self._out, None
        successor, self._next = self._next, None
        if successor is not None:
            if self._life is not None:
                self._in_background(self._bury(self._life, "it took too much memory"), "end")
            self._adopt(successor)
        if out is not None and out.done is not None:
            out.done(scored)

    # -- processes

    def _adopt(self, life: Life) -> None:
        self._life = life
        self._most = memory.bound(life.pid, self._limits.child_bytes)
        if self._look is not None:
            self._look.cancel()
        self._look = asyncio.get_running_loop().call_later(self._limits.memory_seconds, self._look_at_memory)

    def _look_at_memory(self) -> None:
        life = self._life
        if life is None or self._most is None:
            return  # looked at again when there is one
        has = memory.resident(life.pid)
        if has is not None and has > self._most:
            self._replace(f"it has {has >> 20} MiB of memory, more than the {self._most >> 20} MiB it may have")
        self._look = asyncio.get_running_loop().call_later(self._limits.memory_seconds, self._look_at_memory)

    def _replace(self, why: str) -> None:
        """Start a fresh process beside the one that answers, unless one is starting already."""
        if self._next is None and not any(task.get_name() == "replace" for task in self._tasks):
            log.warning("version process %s is replaced: %s", self.pid, why)
            self._in_background(self._start_beside(), "replace")

    async def _start_beside(self) -> None:
        self._restarted()
        try:
            life = await Life.begin(self._command, self._limits.start_seconds, self)
        except PackagingFailed as problem:
            log.warning("version process could not be replaced: %s", problem)
            return
        if self._life is None:  # it died meanwhile and is being started anyway
            await life.end()
            return
        self._next = life
        if self._out is None:
            self._settle(Scored("failed", None, None, 0))

    def _renew(self, outcome: Outcome, error: str) -> None:
        """Give the batch up, kill what is left, and start again without it."""
        life, self._life = self._life, None
        successor, self._next = self._next, None
        if successor is not None:
            self._in_background(self._bury(successor, "it was no longer needed"), "end")
        if life is not None:
            lived = asyncio.get_running_loop().time() - life.since
            self._deaths = 0 if lived >= HEALTHY_SECONDS else self._deaths
            self._in_background(self._start_again(life, error), "start")
        spent = int(self._limits.batch_seconds * 1e6) if outcome == "timed_out" else 0
        self._settle(Scored(outcome, None, error, spent))

    async def _start_again(self, life: Life, why: str) -> None:
        await asyncio.wait([self._in_background(self._bury(life, why), "end")])
        while True:
            await asyncio.sleep(self._pause())
            self._restarted()
            try:
                await self.start()
            except PackagingFailed as problem:
                log.warning("version process did not start: %s; trying again", problem)
            except Exception:  # a machine out of threads, or a defect: who gives up here is away for good
                log.exception("version process did not start; trying again")
            else:
                return

    def _pause(self) -> float:
        """None after the first death, then growing: a version that dies of every request shall not keep a core busy."""
        deaths, self._deaths = self._deaths, self._deaths + 1
        return min(FIRST_PAUSE * 2.0 ** (deaths - 1), LONGEST_PAUSE) if deaths else 0.0

    async def _bury(self, life: Life, why: str) -> None:
        code = await life.end()
        log.warning("version process %s ended: %s (%s)", life.pid, why, how_it_ended(code))

    def _in_background(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
