"""Work that blocks and may never come back, in a thread of its own that nobody waits for longer than he wants.

A thread of asyncio's pool would be waited for at the end of the process, however long it takes. These are daemons: one
that hangs in native code keeps neither the event loop nor the end of the server from going on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], T], seconds: float | None = None) -> T:
    """What the work returns or raises; TimeoutError when it has not come back after so many seconds."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(settler: Callable[[Any], None], outcome: Any) -> None:
        if not done.done():  # else it was given up
            settler(outcome)

    def run() -> None:
        try:
            told: tuple[Callable[[Any], None], Any] = done.set_result, work()
        except BaseException as problem:  # noqa: BLE001  it is for whoever waits
            told = done.set_exception, problem if _can_be_told(problem) else RuntimeError(f"it ended with {problem!r}")
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, *told)

    threading.Thread(target=run, name="aside", daemon=True).start()
    async with asyncio.timeout(seconds):
        return await done


def _can_be_told(problem: BaseException) -> bool:
    """Not what would end the event loop, and not what a future of Python 3.11 does not take."""
    return isinstance(problem, Exception) and not isinstance(problem, StopIteration)
