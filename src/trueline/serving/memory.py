"""What a version's child process may take of the machine's memory, and how much it has.

A leak is seen when the process has far more than it had once loaded; it is then replaced by a fresh one without
failing a request (children.py). A model that takes it all at once is stopped by the kernel (RLIMIT_DATA): the
allocation fails in the child, and the machine does not suffer. Where /proc is missing nothing is known and nothing
bounded.
"""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

HALF_GIB = 512 * 1024 * 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> int | None:
    """Bytes of memory in use by a process; None when it is gone or this is not Linux."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return None


def bound(pid: int, declared: int) -> int | None:
    """How much a process that has just loaded its model may have; the kernel refuses it much more."""
    loaded = resident(pid)
    if loaded is None:
        return None
    most = declared or 2 * loaded + HALF_GIB
    with contextlib.suppress(OSError):  # it is gone, or no descriptors are left
        _refuse(pid, _data(pid) + max(0, most - loaded) + HALF_GIB)
    return most


def _data(pid: int) -> int:
    """Bytes of private memory the process has asked for, used or not: what RLIMIT_DATA counts."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def _refuse(pid: int, most: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))
