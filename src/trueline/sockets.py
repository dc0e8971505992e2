"""Asking a process on this machine over its Unix socket: one line of JSON there, one line back."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from trueline.errors import Unavailable


def ask(path: Path, message: dict[str, Any], *, timeout: float = 10.0) -> dict[str, Any]:
    """Send one message and return the answer.

    Raises:
        Unavailable: nobody listens there, the answer did not come in `timeout` seconds, or it says it failed.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(timeout)
            channel.connect(str(path))
            channel.sendall(json.dumps(message).encode() + b"\n")
            answer = _line(channel)
    except OSError as problem:
        raise Unavailable(f"{path.stem} does not answer on its socket ({problem})") from problem
    if not answer:
        raise Unavailable(f"{path.stem} closed its socket without an answer")
    try:
        fields: dict[str, Any] = json.loads(answer)
    except ValueError as problem:
        raise Unavailable(f"{path.stem} ended in the middle of its answer; ask again") from problem
    if fields.get("ok") is False:
        raise Unavailable(f"{path.stem} refused {message.get('op')}: {fields.get('error', 'no reason given')}")
    return fields


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
