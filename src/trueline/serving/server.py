"""One serving process: everything put together, from start to drained."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from trueline.errors import NotAllowed, TruelineError, Unavailable
from trueline.journal.segments import Writer
from trueline.serving import admin as admins
from trueline.serving import table as tables
from trueline.serving.dataplane import DataPlane
from trueline.serving.endpoints import Endpoints, Policy
from trueline.serving.limits import Limits
from trueline.serving.metrics import Metrics
from trueline.serving.protocol import Connections
from trueline.serving.scoreboard import Scoreboard
from trueline.serving.table import Load, Versions
from trueline.settings import StateFolder

log = logging.getLogger(__name__)

JOURNAL_WAIT = 10.0  # the process before this one may still be draining


@dataclass(frozen=True)
class Config:
    state: StateFolder
    replica: str = "r0"
    host: str = "127.0.0.1"
    port: int = 8080
    replay: bool = False
    limits: Limits = field(default_factory=Limits)


class Server:
    """Start with `start`, stop with `stop`; between them everything happens in the event loop."""

    def __init__(self, config: Config, *, load: Load | None = None) -> None:
        self.config = config
        self._load = load
        self._connections: Connections
        self._listener: asyncio.Server
        self._admin: admins.Admin
        self._admin_listener: asyncio.Server
        self._endpoints: Endpoints
        self._scoreboard: Scoreboard
        self.plane: DataPlane

    async def start(self) -> str:
        """Bind, take the journal, serve the last route table; returns the URL. Raises TruelineError with a sentence."""
        config = self.config
        token = _token(config)
        state = config.state
        bound = _bind(config.host, config.port)  # first: the likeliest thing to be wrong, and it writes nothing
        try:
            await self._assemble(token)
            self._admin = admins.Admin(self.plane, config.replica, self.exposition)
            self._admin_listener = await admins.listen(self._admin, state.socket(f"serve-{config.replica}"))
        except BaseException:
            bound.close()
            raise
        await tables.restore(self.plane.versions, state.routes)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connections, sock=bound, backlog=1024)
        port = bound.getsockname()[1]
        shown = f"[{config.host}]" if ":" in config.host else config.host
        return f"http://{shown}:{port}"

    async def stop(self) -> None:
        """Take nothing new, answer what is in progress, score what is owed, close the journal."""
        self._endpoints.draining = True
        self._listener.close()
        self._connections.drain()
        try:
            async with asyncio.timeout(self.config.limits.drain_seconds):
                await _until(lambda: self.plane.metrics.in_progress == 0)
                await self.plane.versions.drain_shadows()
                await _until(lambda: all(one.quiet for one in self._connections.open))
        except TimeoutError:
            log.warning("not everything could be drained in %g s", self.config.limits.drain_seconds)
        self._admin_listener.close()
        await self._admin.close()
        self._connections.close()
        await self.plane.versions.close()
        self.plane.journal.close()
        self._scoreboard.close()
        self.config.state.socket(f"serve-{self.config.replica}").unlink(missing_ok=True)

    def exposition(self) -> str:
        """The metrics as Prometheus text."""
        plane = self.plane
        standing = plane.versions.standing
        arms = {route.version: route.arm.value for route in standing.table.routes}
        return plane.metrics.render(
            model=standing.table.model,
            epoch=standing.table.epoch,
            roles={one.version: (arms.get(one.version, "warm"), one.runner.kind) for one in plane.versions.loaded},
            journal_bytes=plane.journal.bytes_written,
            connections=len(self._connections.open),
        )

    async def _assemble(self, token: str | None) -> None:
        config = self.config
        folder: Path = config.state.journal(config.replica)
        journal = await asyncio.to_thread(Writer, folder, wait=JOURNAL_WAIT)
        try:
            self._scoreboard = Scoreboard(folder / "scoreboard")
            metrics = Metrics()
            load = self._load or tables.loader(self._scoreboard, config.limits, metrics)
            versions = Versions(load, config.limits, metrics, keep=config.state.routes)
            self.plane = DataPlane(
                journal=journal,
                versions=versions,
                metrics=metrics,
                limits=config.limits,
                prefix=f"{config.replica}-{time.time_ns() // 1000:x}{journal.position}-",
            )
            versions.settle_with(self.plane.settle, self.plane.settle_shadows)
            self._endpoints = Endpoints(self.plane, Policy(token, config.replay), self.exposition)
            self._connections = Connections(self._endpoints.handle, config.limits)
            self._connections.refusals = self._endpoints.count
            unfinished = self._scoreboard.unfinished()
            if unfinished is not None:
                self.plane.record_crash(unfinished)
                self._scoreboard.end()
        except (OSError, TruelineError) as problem:
            journal.close()
            if isinstance(problem, TruelineError):
                raise
            raise Unavailable(f"the journal {folder} cannot be written: {problem.strerror or problem}") from problem


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  only while shutting down: an event would cost each request something
        await asyncio.sleep(0.005)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as problem:
        raise Unavailable(f"cannot listen on {host}: {problem.strerror or problem}; choose another --host") from problem
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(1024)
    except OSError as problem:
        bound.close()
        what = "is in use" if problem.errno == 98 else f"cannot be used ({problem.strerror or problem})"
        raise Unavailable(
            f"port {port} on {host} {what}; stop what listens there or choose another --port"
        ) from problem
    bound.setblocking(False)
    return bound


def _token(config: Config) -> str | None:
    """The token requests must bring: none on loopback, the state folder's anywhere else."""
    if _loopback(config.host):
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


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
