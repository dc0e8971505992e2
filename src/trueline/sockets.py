"""Asking a process on this machine over its Unix socket: one line of JSON there, one line back."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from trueline.errors import Unavailable

_NOW = 0.001  # for what has arrived already; a time-out of 0 would be another mode


def ask(path: Path, message: dict[str, Any], *, timeout: float = 10.0) -> dict[str, Any]:
    """Send one message and return the answer.

    Raises:
        Unavailable: nobody listens there, the answer did not come in `timeout` seconds, or it says it failed.
    """
    with _asked(path, message, timeout) as channel:
        return _answer(path, message, channel)


def ask_each(
    paths: Iterable[Path], message: dict[str, Any], *, timeout: float = 10.0
) -> Iterator[tuple[Path, dict[str, Any] | Unavailable]]:
    """Send one message to all, then give for each, as they answer, what `ask` would return or raise.

    In one thread: on a machine under load each handover to another one waits for its turn.
    """
    deadline = time.monotonic() + timeout
    with ExitStack() as stack:
        waiting = stack.enter_context(selectors.DefaultSelector())
        failed: list[tuple[Path, Unavailable]] = []
        for path in paths:
            try:
                waiting.register(stack.enter_context(_asked(path, message, timeout)), selectors.EVENT_READ, path)
            except Unavailable as problem:
                failed.append((path, problem))
        yield from failed
        while silent := list(waiting.get_map().values()):
            ready = [key for key, _ in waiting.select(max(0.0, deadline - time.monotonic()))]
            for key in ready or silent:
                waiting.unregister(key.fileobj)
                channel = cast("socket.socket", key.fileobj)
                channel.settimeout(max(_NOW, deadline - time.monotonic()))
                try:
                    yield key.data, _answer(key.data, message, channel)
                except Unavailable as problem:
                    yield key.data, problem


def _asked(path: Path, message: dict[str, Any], timeout: float) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        channel.settimeout(timeout)
        channel.connect(str(path))
        channel.sendall(json.dumps(message).encode() + b"\n")
    except OSError as problem:
        channel.close()
        raise _silent(path, problem) from problem
    return channel


def _answer(path: Path, message: dict[str, Any], channel: socket.socket) -> dict[str, Any]:
    try:
        answer = _line(channel)
    except OSError as problem:
        raise _silent(path, problem) from problem
    if not answer:
        raise Unavailable(f"{path.stem} closed its socket without an answer")
    try:
        fields: dict[str, Any] = json.loads(answer)
    except ValueError as problem:
        raise Unavailable(f"{path.stem} ended in the middle of its answer; ask again") from problem
    if fields.get("ok") is False:
        raise Unavailable(f"{path.stem} refused {message.get('op')}: {fields.get('error', 'no reason given')}")
    return fields


def _silent(path: Path, problem: OSError) -> Unavailable:
    return Unavailable(f"{path.stem} does not answer on its socket ({problem})")


def _line(channel: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        part = channel.recv(65536)
        if not part:
            break
        received += part
    return bytes(received)


class Bell:
    """Wakes a process that waits for rows to change. A lost ring costs one polling interval, never correctness."""

    def __init__(self, path: Path) -> None:
        """Listen at `path`, replacing what a dead process left there."""
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.path = path

    def wait(self, seconds: float) -> bool:
        """Sleep until rung or for `seconds`; all rings so far count as one."""
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(16)
        except OSError:
            return False
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(16)
        except OSError:
            return True

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


def dead(folder: Path, pattern: str) -> list[Path]:
    """Bells that a killed process left behind: nobody listens to them any more."""
    return [path for path in sorted(folder.glob(f"{pattern}.bell")) if not _listening(path)]


def _listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # not known to be dead
        return True


def ring(folder: Path, pattern: str) -> None:
    """Wake every process whose bell's name matches; nobody listening is fine, they poll too."""
    for path in folder.glob(f"{pattern}.bell"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            try:
                channel.sendto(b"!", str(path))
            except OSError:
                continue
