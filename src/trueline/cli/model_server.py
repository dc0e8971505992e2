"""The processes of a machine's model server, for `up` and `serve` alike: one for each core that is wanted, and a shipper.

They share one port, which the command keeps (`serving.ports`), and one group, so that each tells the counters of all.
"""

from __future__ import annotations

import fcntl
import math
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from trueline.cli.supervisor import ChildSpec
from trueline.domain.project import Serve
from trueline.errors import Conflict, InvalidInput, Unavailable
from trueline.serving import ports
from trueline.serving.limits import Limits
from trueline.serving.scoreboard import overdue
from trueline.settings import StateFolder
from trueline.sockets import ask

MOST = 256
ANSWER_SECONDS = 1.0
QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class ModelServer:
    """What to start. `replicas` names the processes; `port` is the one that was taken, where `serve` has 0.

    `spare` names one more, which answers while the others are replaced one by one.
    """

    state: StateFolder
    serve: Serve
    port: int
    replicas: Sequence[str]
    storage: str | None = None
    replay: bool = False
    grpc_port: int | None = None  # that was taken
    spare: str | None = None
    group: str = field(default_factory=lambda: secrets.token_hex(8))

    def processes(self) -> list[ChildSpec]:
        """One for each replica; each is watched from outside for a batch that does not come to an end."""
        several = len(self.replicas) > 1
        return [self._process(f"serve/{replica}" if several else "serve", replica) for replica in self.replicas]

    def spare_process(self) -> ChildSpec | None:
        """One more that answers while the others are replaced."""
        return None if self.spare is None else self._process(f"serve/{self.spare}", self.spare)

    def _process(self, name: str, replica: str) -> ChildSpec:
        return ChildSpec(
            name,
            self.module("serving", "--replica", replica, *self._options()),
            announces=True,
            check=partial(_stuck, self.state.journal(replica) / "scoreboard"),
            answers=partial(_answers, self.state.socket(f"serve-{replica}")),
        )

    def shipper(self, *, late: bool = False) -> ChildSpec:
        """One for all journals there are: also for those of replicas that are not started any more.

        It ends after the servers: it brings home what they wrote.
        """
        journals = self.state.journals
        left = [path.name for path in sorted(journals.iterdir())] if journals.exists() else []
        spare = [] if self.spare is None else [self.spare]
        named = [part for name in dict.fromkeys([*self.replicas, *spare, *left]) for part in ("--replica", name)]
        to = () if self.storage is None else ("--storage", self.storage)
        return ChildSpec("ship", self.module("shipping", *named, *to), wave=1, late=late)

    def _options(self) -> tuple[str, ...]:
        flags = {
            "--sync": self.serve.sync,
            "--require-signature": self.serve.require_signature,
            "--no-pickle": not self.serve.pickle,
            "--replay": self.replay,
        }
        given = ("--host", self.serve.host, "--port", str(self.port), "--group", self.group)
        grpc = () if self.grpc_port is None else ("--grpc-port", str(self.grpc_port))
        return *given, *grpc, *(flag for flag, wanted in flags.items() if wanted)

    def module(self, name: str, *options: str) -> tuple[str, ...]:
        return (sys.executable, "-m", f"trueline.{name}", "--state", str(self.state.root.absolute()), *options)


def _stuck(page: Path, started: float) -> str | None:
    return overdue(page, Limits.stuck_seconds, after=started)


def _answers(path: Path) -> bool:
    """Whether a process answers requests, as far as anything is released."""
    try:
        return bool(ask(path, {"op": "ping"}, timeout=ANSWER_SECONDS)["ready"])
    except Unavailable:
        return False


@dataclass(frozen=True)
class Wanted:
    """How many processes an option asks for; None is one per core."""

    processes: int | None


class Processes(click.ParamType[Wanted]):
    """A number, or `auto`."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Wanted:
        if isinstance(value, Wanted):
            return value
        if value == "auto":
            return Wanted(None)
        if not (str(value).isascii() and str(value).isdigit() and 1 <= int(value) <= MOST):
            self.fail(f"{value!r} is neither auto nor a number from 1 to {MOST}", param, ctx)
        return Wanted(int(value))


@contextmanager
def grpc_port(serve: Serve) -> Iterator[int | None]:
    """The port of gRPC, kept for the processes; None when none is wanted."""
    if serve.grpc_port is None:
        yield None
        return
    if find_spec("grpc") is None:
        raise Unavailable("gRPC is not installed here; pip install 'trueline[grpc]', or leave out the port for it")
    with ports.reserve(serve.host, serve.grpc_port, remedy="choose another --grpc-port") as kept:
        yield int(kept.getsockname()[1])


def overridden(
    serve: Serve, host: str | None, port: int | None, processes: Wanted | None, grpc_port: int | None = None
) -> Serve:
    """The project file's values, with those of the command line in their place."""
    wanted = replace(
        serve,
        host=serve.host if host is None else host,
        port=serve.port if port is None else port,
        grpc_port=serve.grpc_port if grpc_port is None else grpc_port,
        processes=serve.processes if processes is None else processes.processes,
    )
    if wanted.grpc_port == wanted.port != 0:
        raise InvalidInput(f"port {wanted.port} cannot be HTTP's and gRPC's at once; choose another --grpc-port")
    return wanted


def count(wanted: int | None) -> int:
    """How many processes to start; None is one for each core that this process may use."""
    return wanted if wanted is not None else cores()


def cores(quota: Path = QUOTA) -> int:
    """The cores this process may use: those it is bound to, and no more than its container is granted."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        granted, period = quota.read_text().split()
    except (OSError, ValueError):
        return bound
    return bound if granted == "max" else max(1, min(bound, math.ceil(int(granted) / int(period))))


class ServingLock:
    """Held by whoever runs the model server of a state folder: its journals have one writer each."""

    def __init__(self, state: StateFolder) -> None:
        path = state.root / "serve.lock"
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise Unavailable(
                f"{path} cannot be opened ({problem.strerror or problem}); make it writable, or choose another --state"
            ) from problem
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise Conflict(
                f"a model server runs on {state.root} already (`trueline up` or `trueline serve`); stop it, or choose "
                "another --state"
            ) from None

    def release(self) -> None:
        os.close(self._handle)
