"""How many connections the operating system lets this process have.

A process that runs out of file descriptors cannot accept, cannot start a child and cannot open its next journal segment.
So the bound on connections is kept below the bound on descriptors, after that was raised as far as it may be.
"""

from __future__ import annotations

import contextlib
import resource

OURS = 128  # descriptors for everything that is not a client: journal, children, admin socket, models being loaded


def connections(wanted: int) -> int:
    """The bound on connections: what is wanted, or what descriptors are left for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted + OURS:
        return wanted
    better = wanted + OURS if hard == resource.RLIM_INFINITY else min(wanted + OURS, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (better, hard))
        soft = better
    return max(1, min(wanted, soft - OURS))
