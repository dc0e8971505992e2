"""One serving process: everything put together, from start to drained."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from trueline import catalogue
from trueline.errors import NotAllowed, NotRecorded, TruelineError, Unavailable
from trueline.journal.records import CrashRecord
from trueline.journal.segments import Writer
from trueline.serving import admin as admins
from trueline.serving import exposition, obituary, ports
from trueline.serving import table as tables
from trueline.serving.contained import Contained
from trueline.serving.dataplane import DataPlane
from trueline.serving.endpoints import Endpoints, Policy
from trueline.serving.exposition import Snapshot, Source
from trueline.serving.limits import Limits
from trueline.serving.loading import Loader
from trueline.serving.metrics import Metrics
from trueline.serving.protocol import Connections
from trueline.serving.repository import Repository
from trueline.serving.scoreboard import Scoreboard
from trueline.serving.siblings import Counters
from trueline.serving.table import Load, Versions
from trueline.settings import StateFolder

if TYPE_CHECKING:
    from trueline.serving.grpc_server import Listener

log = logging.getLogger(__name__)

JOURNAL_WAIT = 10.0  # the process before this one may still be draining
KEEP_SECONDS = 5.0  # how much a killed process may have counted that nobody was ever shown
LAST_CALL = 0.5  # while draining: for a kept-alive connection to send once more and be told that it closes


@dataclass(frozen=True)
class Config:
    state: StateFolder
    replica: str = "r0"
    host: str = "127.0.0.1"
    port: int = 8080
    replay: bool = False
    limits: Limits = field(default_factory=Limits)
    group: str | None = None  # of processes that answer on one port, named by the parent that reserved it
    sync: bool = False
    require_signature: bool = False
    pickle: bool = True
    grpc_port: int | None = None  # None: no gRPC; 0: any free port
    trace_faults: bool = False  # this process is the server's alone, and a crash leaves its trace


class Server:
    """Start with `start`, stop with `stop`; between them everything happens in the event loop."""

    def __init__(self, config: Config, *, load: Load | None = None) -> None:
        self.config = config
        self._load = load
        self._socket: socket.socket
        self._connections: Connections
        self._listener: asyncio.Server
        self._admin: admins.Admin
        self._admin_listener: asyncio.Server
        self._endpoints: Endpoints
        self._scoreboard: Scoreboard
        self._contained = Contained(config.state.contained)
        self._crashes: dict[int, int] = defaultdict(int)
        self._trace: IO[str] | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._keeping: asyncio.Task[None]
        self._grpc: Listener | None = None
        self.grpc: str | None = None  # its address
        self.counters: Counters
        self.plane: DataPlane

    async def start(self) -> str:
        """Bind, take the journal, serve the last route table; returns the URL. Raises TruelineError with a sentence.

        A process that shares its port listens last: until it is ready the others get all connections.
        """
        config = self.config
        token = _token(config)
        state = config.state
        shared = config.group is not None
        speak_grpc = None if config.grpc_port is None else _grpc(config.host, config.grpc_port, shared=shared)
        # first: the likeliest thing to be wrong, and it writes nothing
        self._socket = ports.bind(config.host, config.port, shared=shared)
        try:
            if not shared:
                ports.listen(self._socket)
            await self._assemble(token)
            self._admin = admins.Admin(
                self.plane, config.replica, self.counters, self._contained, self._endpoints.repository
            )
            self._admin_listener = await admins.listen(self._admin, state.socket(f"serve-{config.replica}"))
            await tables.restore(self.plane.versions, state.routes)
            await self._endpoints.repository.restore()
            if speak_grpc is not None:
                self._grpc = speak_grpc(self.plane, self._endpoints, config.limits, shared=shared)
                self.grpc = await self._grpc.start(config.host, config.grpc_port or 0)
            ports.listen(self._socket)
        except BaseException:
            self._socket.close()
            raise
        loop = asyncio.get_running_loop()
        self._keeping = loop.create_task(self._keep_counters())
        self._listener = await loop.create_server(self._connections, sock=self._socket, backlog=ports.BACKLOG)
        port = self._socket.getsockname()[1]
        shown = f"[{config.host}]" if ":" in config.host else config.host
        return f"http://{shown}:{port}"

    async def stop(self) -> None:
        """Take nothing new, answer what is in progress, score what is owed, close the journal.

        Clients that keep their connection are told with an answer that it closes: closing it in silence would lose the
        request that is on its way. Who has nothing to ask in that time has an idle connection closed.
        """
        self._endpoints.draining = True
        self._connections.draining = True
        self.plane.versions.stop_loading()
        grace = self.config.limits.drain_seconds
        closing = None if self._grpc is None else asyncio.get_running_loop().create_task(self._grpc.stop(grace))
        try:
            async with asyncio.timeout(self.config.limits.drain_seconds):
                await self._close_the_door()
                await _at_most(LAST_CALL, lambda: not self._connections.open)
                self._connections.drain()
                await _until(lambda: self.plane.metrics.in_progress == 0)
                await self.plane.versions.drain_shadows()
                await _until(lambda: all(one.quiet for one in self._connections.open))
        except TimeoutError:
            log.warning("not everything could be drained in %g s", self.config.limits.drain_seconds)
        if closing is not None:
            await closing
        self._keeping.cancel()
        self._admin_listener.close()
        await self._admin.close()
        self._connections.close()
        await self.plane.versions.close()
        self.counters.tell()
        self._scoreboard.clear()  # a thread that never came back from loading may have left its version there
        self._scoreboard.close()
        self.config.state.socket(f"serve-{self.config.replica}").unlink(missing_ok=True)
        self.plane.journal.close()  # last: the next process waits for it, and then makes what was taken away here

    def metrics_to(self, tell: Callable[[str], None]) -> None:
        """The metrics of all processes of this port, as Prometheus text, as soon as they are together."""

        async def gather() -> None:
            tell(exposition.render(await self.counters.everybody()))

        task = asyncio.get_running_loop().create_task(gather())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _keep_counters(self) -> None:
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            self.counters.tell()

    async def _close_the_door(self) -> None:
        """Take who has connected already, for closing the socket would cut them off, and listen no more."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                waiting, _ = self._socket.accept()
            except OSError:  # nobody is waiting
                break
            try:
                await loop.connect_accepted_socket(self._connections, waiting)
            except OSError:  # he has gone already; the end of a server depends on nobody
                waiting.close()
        self._listener.close()

    def _counted(self) -> Snapshot:
        plane = self.plane
        standing = plane.versions.standing
        arms = {route.version: route.arm.value for route in standing.table.routes}
        source = Source(
            plane.metrics,
            model=standing.table.model,
            epoch=standing.table.epoch,
            roles={one.version: (arms.get(one.version, "warm"), one.runner.kind) for one in plane.versions.loaded},
            journalled={
                "predictions": plane.counts.predictions,
                "shadows": plane.counts.shadows,
                "labels": plane.counts.labels,
            },
            journal_bytes=plane.journal.bytes_written,
            connections=len(self._connections.open),
            crashes=self._crashes,
        )
        return exposition.snapshot(source)

    async def _assemble(self, token: str | None) -> None:
        config = self.config
        folder: Path = config.state.journal(config.replica)
        journal = await asyncio.to_thread(Writer, folder, wait=JOURNAL_WAIT, sync=config.sync)
        try:
            self._scoreboard = Scoreboard(folder / "scoreboard")
            metrics = Metrics()
            load = self._load or Loader(
                self._scoreboard,
                config.limits,
                metrics,
                self._contained,
                require_signature=config.require_signature,
                pickle=config.pickle,
            )
            versions = Versions(load, config.limits, metrics, keep=config.state.routes)
            self.plane = DataPlane(
                journal=journal,
                versions=versions,
                metrics=metrics,
                limits=config.limits,
                prefix=f"{config.replica}-{time.time_ns() // 1000:x}{journal.position}-",
            )
            versions.settle_with(self.plane.settle, self.plane.settle_shadows)
            repository = Repository(config.state, config.replica, versions)
            self._endpoints = Endpoints(self.plane, Policy(token, config.replay), self.metrics_to, repository)
            self._connections = Connections(self._endpoints.handle, config.limits)
            self._connections.refusals = self._endpoints.count
            # a process on its own is a group of one, and begins at zero
            self.counters = Counters(config.state, config.replica, config.group or secrets.token_hex(8), self._counted)
            self._bury(folder)
        except (OSError, TruelineError) as problem:
            journal.close()
            if isinstance(problem, TruelineError):
                raise
            raise Unavailable(f"the journal {folder} cannot be written: {problem.strerror or problem}") from problem

    def _bury(self, folder: Path) -> None:
        """Tell what the process before this one died of, and keep the versions that may be to blame apart from now on."""
        found = obituary.of(self._scoreboard.unfinished(), folder)
        self._scoreboard.clear()
        if self.config.trace_faults:
            self._trace = obituary.write_into(folder)
        if found is None:
            return
        dead = found.unfinished
        self._crashes[dead.version] += 1
        record = CrashRecord(dead.version, dead.event_us, time.time_ns() // 1000, dead.requests, found.sentence)
        try:
            self.plane.journal.append([record])
        except NotRecorded as problem:
            log.warning("%s", problem)
        log.warning("%s", found.sentence)
        for version in found.suspects:
            digest = _digest(self.config.state, version)
            if digest is not None:
                self._contained.add(digest, found.sentence)
                log.warning(
                    "version %d gets a process of its own from now on; delete %s to have it in the server again",
                    version,
                    self._contained.path(digest),
                )


def _grpc(host: str, port: int, *, shared: bool) -> type[Listener]:
    """What speaks gRPC; raises before anything was begun when it cannot."""
    try:
        from trueline.serving.grpc_server import Listener  # noqa: PLC0415  an optional library, and a heavy one
    except ImportError:
        raise Unavailable(
            "gRPC is not installed here; pip install 'trueline[grpc]', or leave out --grpc-port"
        ) from None
    ports.bind(host, port, shared=shared, remedy="choose another --grpc-port").close()  # grpcio would log, not say
    return Listener


def _digest(state: StateFolder, version: int) -> str | None:
    """Of a version in the route table, or loaded by request: those are what a start loads again."""
    table = tables.kept(state.routes)
    routed = {} if table is None else {route.version: route.digest for route in table.routes}
    with suppress(Unavailable):
        return routed.get(version) or next(
            (one.digest for one in catalogue.read(state.asked / f"{version}.json")), None
        )
    return None


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  only while shutting down: an event would cost each request something
        await asyncio.sleep(0.005)


async def _at_most(seconds: float, holds: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await _until(holds)
    except TimeoutError:
        return


def _token(config: Config) -> str | None:
    """The token requests must bring: none on loopback, the state folder's anywhere else."""
    if ports.loopback(config.host):
        return None
    path = config.state.token
    try:
        token = path.read_text().strip()
    except OSError:
        token = ""
    if not token:
        raise NotAllowed(
            f"listening on {config.host} lets other machines in, and there is no token in {path}: "
            "make one (`trueline up` does) or listen on 127.0.0.1"
        )
    return token
