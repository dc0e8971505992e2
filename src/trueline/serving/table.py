"""The versions of this process and the route table in force.

A new table is prepared beside the old one: each version it names is loaded off the event loop, its digest verified,
and warmed up; then one assignment swaps the tables. Requests that were routed before keep their version, so no request
fails because of a swap. Versions that left the table stay loaded for a while: going back to them takes no loading.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trueline import routefile
from trueline.domain.contracts import Column, Kind
from trueline.domain.routes import Route, RouteTable
from trueline.errors import Conflict, NotFound, PackagingFailed, TruelineError, Unavailable
from trueline.packaging import executors, manifest
from trueline.serving.batching import Lane, Settle
from trueline.serving.checks import Checks
from trueline.serving.children import Child, command
from trueline.serving.limits import Limits
from trueline.serving.metrics import Metrics
from trueline.serving.routing import Split
from trueline.serving.runners import Batch, InProcess, Runner, Scored
from trueline.serving.scoreboard import Scoreboard

log = logging.getLogger(__name__)

Load = Callable[[Route], Awaitable[Runner]]
"""Makes a runner for a route, its digest verified; raises TruelineError with one sentence."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A version that is ready to score."""

    version: int
    path: str
    digest: str
    runner: Runner
    checks: Checks
    lane: Lane


class Standing:
    """A route table with its versions loaded: what the data plane reads, replaced as a whole."""

    def __init__(self, table: RouteTable, by_version: dict[int, Loaded]) -> None:
        self.table = table
        self.split = Split(table)
        self.by_version = by_version
        champion = table.champion
        self.champion = by_version[champion.version] if champion is not None else None
        self.others = {
            version: tuple(other for other in by_version.values() if other.version != version) for version in by_version
        }

    @property
    def ready(self) -> bool:
        return any(route.weight > 0 for route in self.table.routes)


class Versions:
    def __init__(self, load: Load, limits: Limits, metrics: Metrics, *, keep: Path | None = None) -> None:
        self.standing = Standing(RouteTable(epoch=0, model=""), {})
        self._load = load
        self._limits = limits
        self._metrics = metrics
        self._keep = keep  # where the table is kept for the next start
        self._loaded: dict[int, Loaded] = {}  # least recently routed first
        self._one_at_a_time = asyncio.Lock()
        self._settle: Settle
        self._settle_shadow: Settle

    def settle_with(self, settle: Settle, settle_shadow: Settle) -> None:
        """Who gets the batches that come back (the data plane, which needs the versions first)."""
        self._settle, self._settle_shadow = settle, settle_shadow

    @property
    def loaded(self) -> Sequence[Loaded]:
        return tuple(self._loaded.values())

    def pinned(self, version: int) -> Loaded:
        try:
            return self._loaded[version]
        except KeyError:
            present = ", ".join(str(one) for one in sorted(self._loaded)) or "none"
            raise NotFound(
                f"version {version} of '{self.standing.table.model}' is not loaded here; loaded: {present}"
            ) from None

    async def put(self, table: RouteTable, *, over_hold: int | None = None) -> RouteTable:
        """Put a table of control's in force; Conflict when what stands is newer, or held by a person.

        The same table again is acknowledged again, and one epoch may come twice, with more shadows. A hold gives way only to who has seen it: a table that holds too,
        or one sent with `over_hold`, the epoch of the hold.
        """
        async with self._one_at_a_time:
            current = self.standing.table
            if table == current:
                return current
            if table.completes(current):
                return await self._swap(table)
            if table.epoch <= current.epoch:
                raise Conflict(f"epoch {table.epoch} is not newer than epoch {current.epoch}, which is in force here")
            if current.hold and not table.hold and over_hold != current.epoch:
                raise Conflict(f"epoch {current.epoch} is held by a person on this server; release the hold first")
            return await self._swap(table)

    async def override(self, table: RouteTable) -> RouteTable:
        """Put a person's table in force on this server: it takes the next epoch, and a hold."""
        async with self._one_at_a_time:
            epoch = max(self.standing.table.epoch + 1, table.epoch)
            return await self._swap(replace(table, epoch=epoch, hold=True))

    async def close(self) -> None:
        for loaded in self.loaded:
            await loaded.runner.close()
        self._loaded.clear()

    async def drain_shadows(self) -> None:
        for loaded in self.loaded:
            await loaded.lane.drain_shadows()

    async def _swap(self, table: RouteTable) -> RouteTable:
        by_version = await self._ready_all(table)
        replaced = [old for one in by_version.values() if (old := self._loaded.pop(one.version, one)) is not one]
        self._loaded.update(by_version)
        self.standing = Standing(table, by_version)
        if self._keep is not None:
            try:
                routefile.write(self._keep, table)
            except Unavailable as problem:
                log.warning("%s", problem)
        await self._let_go(replaced)
        return table

    async def _ready_all(self, table: RouteTable) -> dict[int, Loaded]:
        """Every version of the table, loaded side by side; if one cannot be, none is kept that was not there."""
        found = await asyncio.gather(*(self._ready(route) for route in table.routes), return_exceptions=True)
        loaded = [one for one in found if isinstance(one, Loaded)]
        if len(loaded) < len(found):
            for one in loaded:
                if self._loaded.get(one.version) is not one:
                    await one.runner.close()
            raise next(one for one in found if isinstance(one, BaseException))
        return {one.version: one for one in loaded}

    async def _ready(self, route: Route) -> Loaded:
        known = self._loaded.get(route.version)
        if known is not None and (known.path, known.digest) == (route.path, route.digest):
            return known
        runner = await self._load(route)
        warm = await _warm_up(runner)
        if warm.values is None and not warm.separable and warm.outcome != "invalid_output":
            await runner.close()
            raise PackagingFailed(f"version {route.version} did not survive its first prediction: {warm.error}")
        return Loaded(
            version=route.version,
            path=route.path,
            digest=route.digest,
            runner=runner,
            checks=Checks(runner.signature.inputs),
            lane=Lane(
                route.version,
                runner,
                settle=self._settle,
                settle_shadow=self._settle_shadow,
                metrics=self._metrics,
                limits=self._limits,
            ),
        )

    async def _let_go(self, replaced: Sequence[Loaded]) -> None:
        """Unload what was replaced (the same number with other content), and what left the table longest ago."""
        retired = [one for one in self._loaded.values() if one.version not in self.standing.by_version]
        too_many = retired[: max(0, len(retired) - self._limits.warm_versions)]
        for loaded in [one for one in too_many if one.lane.idle]:
            del self._loaded[loaded.version]
            await loaded.runner.close()
        for loaded in replaced:
            await loaded.runner.close()


def loader(scoreboard: Scoreboard, limits: Limits, metrics: Metrics) -> Load:
    """Load packaged models: ONNX into this process, everything else into a child of its own."""

    async def load(route: Route) -> Runner:
        folder = Path(route.path)
        page = await asyncio.to_thread(manifest.read, folder)
        if page.kind == manifest.ONNX:
            executor = await asyncio.to_thread(executors.load, folder, route.digest)
            return InProcess(route.version, executor, scoreboard)

        def restarted() -> None:
            metrics.restarts[route.version] += 1

        child = Child(page.signature, page.kind, command(folder, route.digest), limits=limits, restarted=restarted)
        await child.start()
        return child

    return load


def kept(path: Path) -> RouteTable | None:
    """The table of the last run; None when there is none or it cannot be read (control will send one)."""
    try:
        return routefile.read(path)
    except (OSError, ValueError, TypeError, KeyError) as problem:
        log.warning("%s cannot be read (%s); waiting for control to send a route table", path, problem)
        return None


async def restore(versions: Versions, path: Path) -> None:
    """Serve on from the last route table, or from its champion alone when another version cannot be loaded.

    The champion alone stands one epoch lower, so that the whole table is still newer when control sends it again.
    """
    table = kept(path)
    if table is None or not table.routes:
        return
    attempts = [table]
    if table.champion is not None and len(table.routes) > 1:
        alone = replace(table.champion, weight=1.0)
        attempts.append(replace(table, epoch=table.epoch - 1, routes=(alone,)))
    for attempt in attempts:
        try:
            await versions.put(attempt)
        except TruelineError as problem:
            log.warning("the route table of %s cannot be put in force: %s", path, problem)
        else:
            return
    log.warning("waiting for control to send a route table")


async def _warm_up(runner: Runner) -> Scored:
    """Score one made-up row, so that the first request does not pay for lazy set-up."""
    scored: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
    columns = {column.name: [example(column)] for column in runner.signature.inputs}
    runner.run(Batch(columns, rows=1, requests=0, event_us=0), scored.set_result)
    return await scored


_EXAMPLES: dict[Kind, Any] = {
    Kind.integer: 0,
    Kind.float32: 0.0,
    Kind.float64: 0.0,
    Kind.string: "",
    Kind.boolean: False,
    Kind.datetime: "2000-01-01T00:00:00+00:00",
}


def example(column: Column) -> Any:
    """A value the column's contract accepts."""
    if column.kind is Kind.string and column.categories:
        return column.categories[0]
    if column.minimum is not None and column.kind in (Kind.integer, Kind.float32, Kind.float64):
        return int(column.minimum) if column.kind is Kind.integer else float(column.minimum)
    return _EXAMPLES[column.kind]
