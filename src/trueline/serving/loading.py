"""Opening a packaged model for a route: ONNX in this process, everything else in a child of its own.

A version that a serving process died of goes into a child too, whatever its executor. One that is a pickled object gets
the interpreter of its own environment, which is built here if need be, while nothing waits for it.

What opens a model may hang. In a child it is killed at the deadline; a thread of this process can only be given up: it
is left alone, and the version gets a child from then on, so that there is never a second such thread for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from trueline.domain.routes import Route
from trueline.errors import PackagingFailed
from trueline.packaging import executors, manifest
from trueline.packaging.executors import Executor
from trueline.packaging.manifest import Manifest
from trueline.serving import signatures
from trueline.serving.aside import aside
from trueline.serving.children import Child, command
from trueline.serving.contained import Contained
from trueline.serving.limits import Limits
from trueline.serving.metrics import Metrics
from trueline.serving.runners import InProcess, Runner
from trueline.serving.scoreboard import Scoreboard

T = TypeVar("T")


class Late(PackagingFailed):
    """Whatever opens a version has not come back in time."""


@dataclass(frozen=True)
class Loader:
    """Makes a runner for a route, its digest verified; raises TruelineError with one sentence."""

    scoreboard: Scoreboard
    limits: Limits
    metrics: Metrics
    contained: Contained
    require_signature: bool = False
    pickle: bool = True
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)  # as the scoreboard says

    async def __call__(self, route: Route) -> Runner:
        folder = Path(route.path)
        page = await self._in_time(route, lambda: self._described(folder))
        if page.kind == manifest.ONNX and route.digest not in self.contained:
            async with self._one_at_a_time:
                return InProcess(route.version, await self._open_here(route, folder), self.scoreboard)
        start = command(folder, route.digest)
        if page.kind == manifest.PYTHON:
            from trueline.packaging import python_environment  # noqa: PLC0415  other servers start without it

            _check_pickle(route, allowed=self.pickle)
            start = await aside(lambda: python_environment.command(folder, route.digest))
        child = Child(
            page.signature, page.kind, start, limits=self.limits, restarted=lambda: self._restarted(route.version)
        )
        await child.start()
        return child

    def _described(self, folder: Path) -> Manifest:
        page = manifest.read(folder)
        signatures.check(folder, required=self.require_signature)
        return page

    async def _open_here(self, route: Route, folder: Path) -> Executor:
        self.scoreboard.loading(route.version)
        try:
            executor = await self._in_time(route, lambda: executors.load(folder, route.digest))
        except Late as late:  # its thread is still there and may crash yet: the scoreboard goes on saying whose it is
            if route.digest:
                self.contained.add(route.digest, str(late))
            raise
        except BaseException:
            self.scoreboard.loaded()
            raise
        self.scoreboard.loaded()
        return executor

    async def _in_time(self, route: Route, work: Callable[[], T]) -> T:
        try:
            return await aside(work, self.limits.start_seconds)
        except TimeoutError:
            late = f"version {route.version} was given up: it did not load within {self.limits.start_seconds:g} s"
            raise Late(late) from None

    def _restarted(self, version: int) -> None:
        self.metrics.restarts[version] += 1


def _check_pickle(route: Route, *, allowed: bool) -> None:
    """A pickle runs code when it is opened: it has to be wanted, and to be the one that was registered."""
    if not allowed:
        raise PackagingFailed(
            f"version {route.version} holds a pickled Python object, and this server loads none; "
            "set serve.pickle to true, or build the model from scikit-learn's own parts"
        )
    if not route.digest:
        raise PackagingFailed(
            f"version {route.version} holds a pickled Python object and no digest says which; register it"
        )
