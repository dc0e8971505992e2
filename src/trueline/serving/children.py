"""A version in a process of its own, so that a model that hangs, crashes or leaks costs nobody but itself.

One batch is out at a time, with a deadline. A child that misses it or dies is killed and started again *without* that
batch; until it is back, its requests are refused at once and the champion answers them. A child that cannot even start
is tried again with growing pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from trueline.errors import PackagingFailed
from trueline.journal.records import Outcome
from trueline.packaging.signature import Signature
from trueline.serving.limits import Limits
from trueline.serving.pipe import Broken, FromChild, Inbox, Ready, Values, Work, frame
from trueline.serving.runners import Batch, Done, Scored

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0


def command(folder: Path, digest: str) -> Callable[[int], Sequence[str]]:
    """The command line of a child, given the descriptor of its end of the pipe."""
    return lambda descriptor: (
        sys.executable, "-m", "trueline.serving.child", str(descriptor), str(folder), digest,
    )  # fmt: skip


class Child:
    """A `Runner` in another process; `start` before use."""

    def __init__(
        self,
        signature: Signature,
        kind: str,
        command: Callable[[int], Sequence[str]],
        *,
        limits: Limits,
        restarted: Callable[[], None],
    ) -> None:
        self.signature = signature
        self.kind = kind
        self._command = command
        self._limits = limits
        self._restarted = restarted
        self._life: _Life | None = None  # of the process that is ready; None while there is none
        self._ending: _Life | None = None  # of the process that is being replaced
        self._restart: asyncio.Task[None] | None = None
        self._number = 0
        self._batch: tuple[int, Batch, Done] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start the process and wait until the model is loaded; PackagingFailed when it cannot be."""
        self._life = await _Life.begin(self._command, self._limits.start_seconds, self)

    @property
    def pid(self) -> int | None:
        return self._life.pid if self._life is not None else None

    def run(self, batch: Batch, done: Done) -> None:
        if self._life is None:
            done(Scored("failed", None, "its process is being started again", 0))
            return
        self._number += 1
        self._batch = (self._number, batch, done)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._limits.batch_seconds, self._late)
        self._life.send(frame(Work(self._number, batch.rows, batch.columns)))

    async def close(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._restart
        life, self._life = self._life, None
        self._settle(Scored("failed", None, "the version was unloaded", 0))
        for one in (life, self._ending):
            if one is not None:
                await one.end()

    def received(self, message: FromChild) -> None:
        """Called by the pipe for each answer."""
        if self._batch is None or isinstance(message, Ready | Broken) or message.number != self._batch[0]:
            return
        if isinstance(message, Values):
            values = np.frombuffer(message.data, dtype=np.float64)
            self._settle(Scored("answered", values, None, message.exec_us))
        elif message.outcome == "failed":
            self._settle(Scored("failed", None, message.error, message.exec_us, separable=True))
        else:
            self._settle(Scored("invalid_output", None, message.error, message.exec_us))

    def lost(self, life: _Life) -> None:
        """Called by the pipe when the process is gone."""
        if self._life is life:
            self._renew("failed", "its process died")

    def _late(self) -> None:
        waited = self._limits.batch_seconds
        self._renew("timed_out", f"it gave no answer within {waited:g} s and its process was killed")

    def _renew(self, outcome: Outcome, error: str) -> None:
        """Give the batch up, kill what is left, and start again without it."""
        life, self._life = self._life, None
        self._restart = asyncio.get_running_loop().create_task(self._start_again(life, error))
        self._settle(
            Scored(outcome, None, error, int(self._limits.batch_seconds * 1e6) if outcome == "timed_out" else 0)
        )

    async def _start_again(self, life: _Life | None, why: str) -> None:
        if life is not None:
            self._ending = life
            code = await life.end()
            self._ending = None
            log.warning("version process %s restarted: %s (%s)", life.pid, why, _how_it_ended(code))
        pause = FIRST_PAUSE
        while True:
            self._restarted()
            try:
                await self.start()
            except PackagingFailed as problem:
                log.warning("version process did not start: %s; trying again in %g s", problem, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return

    def _settle(self, scored: Scored) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        batch, self._batch = self._batch, None
        if batch is not None:
            batch[2](scored)


class _Life(asyncio.Protocol):
    """One process and its end of the pipe, from start to end."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._inbox = Inbox()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process: subprocess.Popen[bytes]
        self._transport: asyncio.Transport | None = None
        self._gone = False

    @classmethod
    async def begin(cls, command: Callable[[int], Sequence[str]], patience: float, child: Child) -> _Life:
        life = cls(child)
        ours, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            # In this thread and at once: the child dies with the thread that started it (child.py), and a worker
            # thread of a pool may end earlier than the server. Starting takes about a millisecond.
            life._process = subprocess.Popen(  # noqa: ASYNC220
                command(descriptor), pass_fds=(descriptor,), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: life, sock=ours)
            await asyncio.wait_for(life._opened, patience)
        except TimeoutError:
            await life.end()
            raise PackagingFailed(f"its process did not load the model within {patience:g} s") from None
        except BaseException:
            await life.end()
            raise
        if life._gone:
            await life.end()
            raise PackagingFailed("its process ended as soon as the model was loaded")
        return life

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def end(self) -> int:
        """Make sure that the process is gone, and return its exit code."""
        if self._transport is not None:
            self._transport.abort()
        self._process.kill()
        return await asyncio.to_thread(self._process.wait)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for message in self._inbox.feed(data):
            if self._opened.done():
                self._child.received(message)
            elif isinstance(message, Broken):
                self._opened.set_exception(PackagingFailed(message.error))
            else:
                self._opened.set_result(None)

    def connection_lost(self, problem: Exception | None) -> None:  # noqa: ARG002  the interface's name
        self._gone = True
        if not self._opened.done():
            self._opened.set_exception(PackagingFailed("its process ended before the model was loaded"))
        else:
            self._child.lost(self)


def _how_it_ended(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
