"""One process of a version and its end of the batch pipe, from start to end.

The process leads a group of its own, and what a model forks is in it: the end of one is the end of all. That it is gone
is learnt from the kernel (a pidfd), not from the pipe alone, which something it forked could keep open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from trueline.errors import PackagingFailed
from trueline.serving.pipe import Broken, FromChild, Garbled, Inbox, Ready

Command = Callable[[int], Sequence[str]]
"""The command line of a child, given the descriptor of its end of the pipe."""


DIED = "its process died"
MOMENT = 0.05


class Owner(Protocol):
    """Who hears of a life that has begun."""

    def received(self, life: Life, message: FromChild) -> None: ...

    def lost(self, life: Life, why: str) -> None: ...


class Life(asyncio.Protocol):
    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._inbox = Inbox()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process: subprocess.Popen[bytes]
        self._transport: asyncio.Transport | None = None
        self._pidfd: int | None = None
        self._gone = False
        self.tuples = False  # it takes rows as they came
        self.since = 0.0  # when it was ready (loop time)

    @classmethod
    async def begin(cls, command: Command, patience: float, owner: Owner) -> Life:
        """Start a process and wait until its model is loaded; PackagingFailed when it cannot be."""
        life = cls(owner)
        try:
            ours, theirs = socket.socketpair()
        except OSError as problem:  # no descriptors are left
            raise _not_started(problem) from problem
        with theirs:
            descriptor = theirs.fileno()
            # In this thread and at once: the child dies with the thread that started it (child.py), and a worker
            # thread of a pool may end earlier than the server. Starting takes about a millisecond.
            try:
                life._process = subprocess.Popen(  # noqa: ASYNC220
                    command(descriptor),
                    pass_fds=(descriptor,),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    process_group=0,
                )
            except OSError as problem:
                ours.close()
                raise _not_started(problem) from problem
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: life, sock=ours)
            life._watch()
            await asyncio.wait_for(life._opened, patience)
        except TimeoutError:
            await life.end()
            raise PackagingFailed(f"its process did not load the model within {patience:g} s") from None
        except BaseException as problem:
            if life._transport is None:
                ours.close()
            await life.end()
            if isinstance(problem, OSError):
                raise _not_started(problem) from problem
            raise
        if life._gone:
            await life.end()
            raise PackagingFailed("its process ended as soon as the model was loaded")
        life.since = asyncio.get_running_loop().time()
        return life

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def end(self) -> int:
        """Make sure that the process and what it forked are gone, and return its exit code."""
        self._gone = True
        if self._transport is not None:
            self._transport.abort()
        self._unwatch()
        with contextlib.suppress(ProcessLookupError, PermissionError):  # none is left, or (macOS) only its corpse
            os.killpg(self.pid, signal.SIGKILL)  # its number is not free for others before `wait`
        self._process.kill()
        return await asyncio.to_thread(self._process.wait)

    # -- the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._inbox.feed(data):
                if self._gone:
                    return
                if self._opened.done():
                    self._owner.received(self, message)
                else:
                    self._open(message)
        except Garbled as problem:
            self._lose(str(problem))

    def connection_lost(self, problem: Exception | None) -> None:  # noqa: ARG002  the interface's name
        if self._pidfd is None:
            self._lose(DIED)
        elif not self._gone:  # the end of a process closes its pipe a moment before it is told of
            asyncio.get_running_loop().call_later(MOMENT, self._lose, "it closed its pipe")

    # -- inside

    def _open(self, message: FromChild) -> None:
        if isinstance(message, Ready):
            self.tuples = message.tuples
            self._opened.set_result(None)
        elif isinstance(message, Broken):
            self._opened.set_exception(PackagingFailed(message.error))
        else:
            raise Garbled("it sent an answer")

    def _watch(self) -> None:
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self.pid)
            asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        self._unwatch()
        self._lose(DIED)

    def _unwatch(self) -> None:
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)

    def _lose(self, why: str) -> None:
        if self._gone:
            return
        self._gone = True
        if not self._opened.done():
            told = "its process ended" if why == DIED else why
            self._opened.set_exception(PackagingFailed(f"{told} before the model was loaded"))
        else:
            self._owner.lost(self, why)


def _not_started(problem: OSError) -> PackagingFailed:
    return PackagingFailed(f"its process could not be started: {problem.strerror or problem}")


def how_it_ended(code: int) -> str:
    """An exit code in words.

    >>> how_it_ended(-9), how_it_ended(-40), how_it_ended(3)
    ('signal SIGKILL', 'signal 40', 'exit code 3')
    """
    names = {known.value: known.name for known in signal.Signals}  # not all of those of real time have one
    return f"signal {names.get(-code, -code)}" if code < 0 else f"exit code {code}"
