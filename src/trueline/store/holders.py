"""Who holds a lease, named so that others can tell whether it is still there.

A holder is a process: its machine (this boot of it, this process namespace), its number, and when it started, for
numbers are given again. Of a process on another machine nothing is known, and its lease has to run out.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

PROC = Path("/proc")
DEAD = {"Z", "X"}


def me() -> str:
    """This process."""
    return f"{place()}:{os.getpid()}:{_started(os.getpid()) or 0}"


def gone(holder: str) -> bool:
    """Whether that process is known to run no more."""
    where, _, process = holder.partition(":")
    number, _, started = process.partition(":")
    if not started or where != place() or not where:
        return False
    return _started(int(number)) != int(started)


@cache
def place() -> str:
    """This machine in a few letters; empty where it cannot be told from others."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text()
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 it is no path that it says
    except OSError:
        return ""
    return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:12]


def _started(process: int) -> int | None:
    """When a process started, in ticks since boot; None when it runs no more."""
    try:
        fields = (PROC / str(process) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in DEAD else int(fields[19])
