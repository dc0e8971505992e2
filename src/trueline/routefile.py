"""The route table that is kept for restarts: one file, replaced whole, its epoch never going back.

Control writes it before it pushes a table, and every serving process when it puts one in force. Whoever writes first
looks whether there is a later table already, and both under one lock: else the slower of two writers would put an
older table back, and a process that starts then would serve what was taken back.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trueline.domain.routes import RouteTable, dumps, loads
from trueline.errors import Unavailable


def read(path: Path) -> RouteTable | None:
    """The table of the last run; None when there is none; raises ValueError, TypeError or KeyError for anything else."""
    try:
        return loads(path.read_text())
    except FileNotFoundError:
        return None


def write(path: Path, table: RouteTable) -> None:
    """Replace the file atomically, unless it holds a later table.

    Raises:
        Unavailable: it cannot be written (a full disk, most likely).
    """
    draft = path.with_suffix(".draft")
    try:
        with _alone(path.with_suffix(".lock")):
            standing = _standing(path)
            if standing is not None and (standing.epoch > table.epoch or standing == table):
                return
            draft.write_text(dumps(table))
            os.replace(draft, path)  # noqa: PTH105 the atomic call, by its name
    except OSError as problem:
        raise Unavailable(
            f"{path} cannot be written ({problem.strerror or problem}); until it can, a server that restarts begins "
            "from an older table"
        ) from problem


def _standing(path: Path) -> RouteTable | None:
    """The table that is there; one that cannot be read counts for nothing."""
    try:
        return read(path)
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Under a lock that the kernel lets go of with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
