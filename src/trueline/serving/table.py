"""The versions of this process and the route table in force.

A new table is prepared beside the old one: each version it names is loaded off the event loop, its digest and signature
verified, and warmed up; then one assignment swaps the tables. Requests that were routed before keep their version, so no
request fails because of a swap. Versions that left the table stay loaded for a while: going back to them takes no loading.

Loading may take seconds, and nothing waits for it but the table that needs it: a newer table whose versions are at hand,
such as a rollback, passes by, and the older one is refused when it is ready at last. So what stands is looked at twice,
before the loading and in the moment of the swap, with nothing awaited in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trueline import routefile
from trueline.domain.contracts import Column, Kind
from trueline.domain.routes import Route, RouteTable
from trueline.errors import Conflict, NotFound, PackagingFailed, TruelineError, Unavailable
from trueline.serving import plain
from trueline.serving.batching import Lane, Settle
from trueline.serving.checks import Checks
from trueline.serving.limits import Limits
from trueline.serving.metrics import Metrics
from trueline.serving.plain import Plain
from trueline.serving.routing import Split
from trueline.serving.runners import Batch, Runner, Scored, describe

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
    plain: Plain | None  # decodes rows of this version's inputs that need no further look
    lane: Lane


class Standing:
    """A route table with its versions loaded: what the data plane reads, replaced as a whole."""

    def __init__(self, table: RouteTable, by_version: dict[int, Loaded]) -> None:
        self.table = table
        self.split = Split(table)
        self.by_version = by_version
        champion = table.champion
        self.champion = by_version[champion.version] if champion is not None else None
        heaviest = max(table.routes, key=lambda route: route.weight, default=None)
        leads = self.champion is not None and heaviest is champion
        self.door = self.champion.lane.door if leads and self.champion is not None else None  # nobody else can answer
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
        self._under_way: dict[tuple[int, str, str], asyncio.Task[Loaded]] = {}  # being loaded, for whoever asks
        self._pending: list[RouteTable] = []  # tables whose versions are being loaded
        self._asked: set[int] = set()  # versions that somebody had loaded by name, in no table or not yet
        self._failures: dict[int, str] = {}  # why a version could not be loaded when it was last tried
        self._asking: list[int] = []  # likewise, while they are being loaded
        self._leaving: set[asyncio.Task[None]] = set()  # what is being let go of
        self._settle: Settle
        self._settle_shadow: Settle

    def settle_with(self, settle: Settle, settle_shadow: Settle) -> None:
        """Who gets the batches that come back (the data plane, which needs the versions first)."""
        self._settle, self._settle_shadow = settle, settle_shadow

    @property
    def loaded(self) -> Sequence[Loaded]:
        return tuple(self._loaded.values())

    @property
    def answers(self) -> bool:
        """Whether a version answers here, or none is released."""
        kept_for_restarts = None if self._keep is None else kept(self._keep)
        return self.standing.ready or kept_for_restarts is None or not kept_for_restarts.routes

    @property
    def loading(self) -> Mapping[int, str]:
        """The versions that are being loaded, and why that failed the time before, if it did."""
        return {version: self._failures.get(version, "") for version, _, _ in self._under_way}

    @property
    def needed(self) -> set[int]:
        """The versions of the table in force, and those that are being prepared."""
        return self._awaited().union(self.standing.by_version)

    def pinned(self, version: int) -> Loaded:
        try:
            return self._loaded[version]
        except KeyError:
            present = ", ".join(str(one) for one in sorted(self._loaded)) or "none"
            raise NotFound(
                f"version {version} of '{self.standing.table.model}' is not loaded here; loaded: {present}"
            ) from None

    def keeps(self, one: Loaded) -> bool:
        """Whether it is still loaded: what a request was routed by may have been replaced and let go meanwhile."""
        return self._loaded.get(one.version) is one

    def stand_in(self, version: int, then: Loaded) -> Loaded | None:
        """Who answers what this version could not: the champion, or, where it is that one, who was champion `then`."""
        for champion in (self.standing.champion, then):
            if champion is not None and champion.version != version and self.keeps(champion):
                return champion
        return None

    async def put(self, table: RouteTable, *, over_hold: int | None = None) -> RouteTable:
        """Put a table of control's in force; Conflict when what stands is newer, or held by a person.

        The same table again is acknowledged again, and one epoch may come twice, with more shadows. A hold gives way only to who has seen it: a table that holds too,
        or one sent with `over_hold`, the epoch of the hold.
        """
        if self._stands(table, over_hold):
            return table
        by_version = await self._ready_all(table)
        try:
            already = self._stands(table, over_hold)  # the world went on meanwhile
        except Conflict:
            await self._discard(by_version.values())
            raise
        if already:
            return table
        await self._swap(table, by_version)
        return table

    async def override(self, table: RouteTable) -> RouteTable:
        """Put a person's table in force on this server: it takes the next epoch, and a hold."""
        by_version = await self._ready_all(table)
        epoch = max(self.standing.table.epoch + 1, table.epoch)
        held = replace(table, epoch=epoch, hold=True)
        await self._swap(held, by_version)
        return held

    async def load(self, route: Route) -> None:
        """Have a version warm that no table names: it answers who names it, and stays until it is unloaded."""
        held = {*self._asked, *self._asking} - {route.version} - self.standing.by_version.keys()
        if len(held) >= self._limits.asked_versions:
            raise Conflict(
                f"{self._limits.asked_versions} versions are loaded by request already ({_numbers(held)}); unload one"
            )
        self._asking.append(route.version)
        try:
            loaded = await self._shared(route)
        finally:
            self._asking.remove(route.version)
        if route.version in self.standing.by_version:  # routed meanwhile, or all along
            await self._discard([loaded])
            return
        before = self._loaded.pop(route.version, loaded)
        self._loaded[route.version] = loaded
        self._asked.add(route.version)
        if before is not loaded:
            await _end(before)

    async def unload(self, version: int) -> None:
        """Let go of a version that no table names, once it has answered what it was asked."""
        loaded = self.pinned(version)
        if version in self.needed:
            raise Conflict(
                f"version {version} of '{self.standing.table.model}' is in the route table, so it stays loaded; a release "
                "or a rollback takes it out"
            )
        del self._loaded[version]
        self._asked.discard(version)
        await _end(loaded)

    def _stands(self, table: RouteTable, over_hold: int | None) -> bool:
        """Whether the table is in force already; Conflict when it may not be put in force."""
        current = self.standing.table
        if table == current:
            return True
        if table.completes(current):
            return False
        if table.epoch <= current.epoch:
            raise Conflict(f"epoch {table.epoch} is not newer than epoch {current.epoch}, which is in force here")
        if current.hold and not table.hold and over_hold != current.epoch:
            raise Conflict(f"epoch {current.epoch} is held by a person on this server; release the hold first")
        return False

    def stop_loading(self) -> None:
        """Give up what is being loaded: whoever waits for it is told, and a server that ends waits for no model."""
        for task in self._under_way.values():
            task.cancel()

    async def close(self) -> None:
        self.stop_loading()
        for task in self._leaving:
            task.cancel()
        unneeded = (*self._under_way.values(), *self._leaving)
        if unneeded:
            await asyncio.wait(unneeded)
        for loaded in self.loaded:
            await loaded.runner.close()
        self._loaded.clear()

    async def drain_shadows(self) -> None:
        for loaded in self.loaded:
            await loaded.lane.drain_shadows()

    async def _swap(self, table: RouteTable, by_version: dict[int, Loaded]) -> None:
        """Put it in force, at once, and keep it for the next start. What nobody needs is let go of meanwhile."""
        replaced = [old for one in by_version.values() if (old := self._loaded.pop(one.version, one)) is not one]
        self._loaded.update(by_version)
        self.standing = Standing(table, by_version)
        self._failures.clear()
        for one in (*replaced, *self._retire()):
            self._let_go(one)
        if self._keep is not None and kept(self._keep) != table:  # control wrote it before it pushed it
            try:
                await asyncio.to_thread(routefile.write, self._keep, table)  # others may be writing it
            except Unavailable as problem:
                log.warning("%s", problem)

    async def _ready_all(self, table: RouteTable) -> dict[int, Loaded]:
        """Every version of the table, loaded side by side; if one cannot be, none is kept that was not there.

        Nothing is awaited when all are at hand: under load each turn of the event loop is a batch of somebody's.
        """
        at_hand = {route.version: known for route in table.routes if (known := self._known(route)) is not None}
        if len(at_hand) == len(table.routes):
            return at_hand
        self._pending.append(table)
        try:
            found = await asyncio.gather(*(self._shared(route) for route in table.routes), return_exceptions=True)
        finally:
            self._pending.remove(table)
        loaded = [one for one in found if isinstance(one, Loaded)]
        if len(loaded) < len(found):
            await self._discard(loaded)
            raise next(one for one in found if isinstance(one, BaseException))
        return {one.version: one for one in loaded}

    def _known(self, route: Route) -> Loaded | None:
        known = self._loaded.get(route.version)
        return known if known is not None and (known.path, known.digest) == (route.path, route.digest) else None

    async def _shared(self, route: Route) -> Loaded:
        """A version that is at hand or, if it is not, loaded once for all tables that wait for it."""
        known = self._known(route)
        if known is not None:
            return known
        key = (route.version, route.path, route.digest)
        loading = self._under_way.get(key)
        if loading is None:
            loading = self._under_way[key] = asyncio.get_running_loop().create_task(self._ready(route))
            loading.add_done_callback(lambda _: self._under_way.pop(key))
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            if loading.cancelled():
                raise Unavailable(f"version {route.version} is not loaded: this server is ending") from None
            raise

    async def _discard(self, loaded: Iterable[Loaded]) -> None:
        """Unload what was loaded for a table that did not come into force, unless another one needs it."""
        for one in loaded:
            if self._loaded.get(one.version) is not one and one.version not in self._awaited():
                await one.runner.close()

    def _awaited(self) -> set[int]:
        """The versions of tables that are being prepared, and those that are being loaded by request."""
        return {*self._asking, *(route.version for table in self._pending for route in table.routes)}

    async def _ready(self, route: Route) -> Loaded:
        """A fresh version; whatever is wrong with it is said as PackagingFailed, and costs no other version anything."""
        try:
            runner = await self._load(route)
            try:
                return await self._warm(route, runner)
            except BaseException:
                await runner.close()
                raise
        except TruelineError as problem:
            self._failures[route.version] = str(problem)
            raise
        except Exception as defect:
            log.exception("a defect in trueline, while version %d was loaded", route.version)
            raise PackagingFailed(f"version {route.version} cannot be loaded: {describe(defect)}") from defect

    async def _warm(self, route: Route, runner: Runner) -> Loaded:
        warm = await _warm_up(runner)
        if warm.values is None and not warm.separable and warm.outcome != "invalid_output":
            raise PackagingFailed(f"version {route.version} did not survive its first prediction: {warm.error}")
        return Loaded(
            version=route.version,
            path=route.path,
            digest=route.digest,
            runner=runner,
            checks=Checks(runner.signature.inputs, runner.signature.allowed),
            plain=plain.of(runner.signature.inputs),
            lane=Lane(
                route.version,
                runner,
                settle=self._settle,
                settle_shadow=self._settle_shadow,
                metrics=self._metrics,
                limits=self._limits,
            ),
        )

    def _retire(self) -> Sequence[Loaded]:
        """Take out what left the table longest ago; one that is at work has until the next swap."""
        needed = self.needed | self._asked
        retired = [one for one in self._loaded.values() if one.version not in needed]
        leaving = [one for one in retired[: max(0, len(retired) - self._limits.warm_versions)] if one.lane.idle]
        for one in leaving:
            del self._loaded[one.version]
        return leaving

    def _let_go(self, one: Loaded) -> None:
        """Unload it beside: the end of a process takes a while, and whoever sent the table waits for the table alone."""
        task = asyncio.get_running_loop().create_task(_end(one))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


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


def _numbers(versions: Iterable[int]) -> str:
    return ", ".join(str(version) for version in sorted(versions))


async def _end(loaded: Loaded) -> None:
    """Unload it once it has answered what it was asked."""
    try:
        while not loaded.lane.idle:  # noqa: ASYNC110  rare, and an event would cost each request something
            await asyncio.sleep(0.005)
    finally:
        await loaded.runner.close()


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
