"""Where the servers of a state folder are, and whether any run.

`up` holds an exclusive lock on the folder itself for as long as it lives, so neither a stale `server.json` nor a
recycled process id can fool anybody: the kernel lets go of the lock however the process ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress

import msgspec

from trueline.errors import Conflict, Unavailable
from trueline.settings import StateFolder

PATIENCE_SECONDS = 0.5
"""For taking the lock: a client that just looks holds it shared for microseconds."""


class Servers(msgspec.Struct, frozen=True, omit_defaults=True):
    """Addresses, and the process id of the supervisor."""

    control: str
    serve: str
    pid: int
    grpc: str | None = None  # host and port, when the model server speaks it


class FolderLock:
    """The exclusive lock of a running `up`, held until `release` or the end of the process."""

    def __init__(self, state: StateFolder) -> None:
        self._handle = os.open(state.root, os.O_RDONLY | os.O_DIRECTORY)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _try(self._handle, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(self._handle)
                found = read(state)
                where = f" at {found.control}" if found else ""
                raise Conflict(f"trueline is already up{where} on {state.root}; stop it, or choose another --state")
            time.sleep(0.01)

    def release(self) -> None:
        os.close(self._handle)


def running(state: StateFolder) -> bool:
    """Whether an `up` holds this state folder."""
    try:
        handle = os.open(state.root, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise Unavailable(f"the state folder {state.root} cannot be read ({problem.strerror})") from problem
    try:
        return not _try(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _try(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read(state: StateFolder) -> Servers | None:
    """The addresses that were published last, if any."""
    try:
        return msgspec.json.decode(state.servers.read_bytes(), type=Servers)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as problem:
        raise Unavailable(f"{state.servers} cannot be read ({problem}); restart `trueline up`") from problem


def need(state: StateFolder) -> Servers:
    """The addresses of the servers that run now.

    Raises:
        Unavailable: none does, or not yet, or not any more.
    """
    held = running(state)
    found = read(state) if held else None
    if found is not None:
        return found
    if held:
        raise Unavailable(f"`trueline up` on {state.root} is starting or ending; try again in a moment")
    raise Unavailable(f"no server runs on {state.root}; start one with `trueline up`")


def publish(state: StateFolder, servers: Servers) -> None:
    """Write the addresses for clients, readable by the owner, whole or not at all."""
    draft = state.servers.with_name(f".{state.servers.name}-{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(servers) + b"\n")
    draft.rename(state.servers)


def withdraw(state: StateFolder) -> None:
    with suppress(OSError):
        state.servers.unlink()
