"""Which version is being scored or loaded at this moment, and since when, in a file that outlives the process.

The page of a shared mapping belongs to the kernel, so after `kill -9` or a segmentation fault in native code the next
start finds what was written last, and journals it as a bad event of that version. Writing costs one memory store.

An executor inside the serving process has no deadline of its own: while it computes, nothing else of that process runs.
So another process, the supervisor, looks at the page (`overdue`) and kills a process that is stuck. The moment is of
CLOCK_MONOTONIC, which all processes of a machine share. `since` is written before `version`, and `overdue` looks twice:
a page caught halfway between two batches never reads as one long batch.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

# since (ns), requests, rows, event time of the first request, version (0: none), whether somebody called it stuck,
# the version being loaded (0: none), since (wall clock, µs)
_LAYOUT = struct.Struct("<qqqqqqqq")
_BUSY = struct.Struct("<qqqqq")
_IDLE = struct.Struct("<qq")
_LOADING = struct.Struct("<qq")
_VERSION_AT = 32
_STUCK_AT = 40
_LOADING_AT = 48

ROW_SECONDS = 0.001  # that each row of a batch is granted beyond the deadline
_LOOK_AGAIN = 0.002


@dataclass(frozen=True)
class Unfinished:
    """What a process left behind; `loading`: it was still making the version ready, nobody waited for it.

    `beside`: what another thread was loading while this version was scored.
    """

    version: int
    requests: int
    event_us: int
    stuck: bool = False  # it was killed because it did not come to an end
    loading: bool = False
    beside: Unfinished | None = None


class Scoreboard:
    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size != _LAYOUT.size:  # new, or of another trueline: says nothing
                os.ftruncate(descriptor, 0)
            # its block is taken now: a store to a mapped hole on a full disk would be the death of the process (SIGBUS)
            os.posix_fallocate(descriptor, 0, _LAYOUT.size)
            self._map = mmap.mmap(descriptor, _LAYOUT.size)
        finally:
            os.close(descriptor)

    def unfinished(self) -> Unfinished | None:
        """What the process before this one was doing when it died."""
        _, requests, _, event_us, version, stuck, loading, loading_us = _LAYOUT.unpack_from(self._map)
        opening = Unfinished(loading, 0, loading_us, bool(stuck), loading=True) if loading else None
        if not version:
            return opening
        beside = opening if loading != version else None
        return Unfinished(version, requests, event_us, bool(stuck), beside=beside)

    def begin(self, version: int, requests: int, event_us: int, rows: int = 1) -> None:
        _BUSY.pack_into(self._map, 0, time.monotonic_ns(), requests, rows, event_us, version)

    def end(self) -> None:
        _IDLE.pack_into(self._map, _VERSION_AT, 0, 0)

    def loading(self, version: int) -> None:
        """A version is being opened and warmed up in this process."""
        _LOADING.pack_into(self._map, _LOADING_AT, version, time.time_ns() // 1000)

    def loaded(self) -> None:
        _LOADING.pack_into(self._map, _LOADING_AT, 0, 0)

    def clear(self) -> None:
        """Forget what the process before this one left behind, once it is journalled."""
        self._map[:] = bytes(_LAYOUT.size)

    def close(self) -> None:
        self._map.close()


def overdue(path: Path, seconds: float, *, after: float = 0.0) -> str | None:
    """A sentence when the process of this page has been scoring one batch for too long, else None.

    For another process than the one that scores. What it calls overdue it marks so, and the next start can tell a
    version that hung from one that crashed. What was begun before `after` (of CLOCK_MONOTONIC) is not looked at: a
    process that is starting has not cleared the page of the one that died.
    """
    seen = _busy(path, seconds)
    if seen is None or seen[0] < after * 1e9:
        return None
    time.sleep(_LOOK_AGAIN)
    if _busy(path, seconds) != seen:
        return None
    since, requests, version = seen
    with contextlib.suppress(OSError), path.open("r+b") as page:
        page.seek(_STUCK_AT)
        page.write(struct.pack("<q", 1))
    spent = (time.monotonic_ns() - since) / 1e9
    which = f"{requests} request{'' if requests == 1 else 's'}"
    return f"version {version} has been scoring {which} for {spent:.1f} s"


def _busy(path: Path, seconds: float) -> tuple[int, int, int] | None:
    """(since, requests, version) of a batch that has been out for too long."""
    try:
        page = path.read_bytes()
    except OSError:
        return None
    if len(page) != _LAYOUT.size:
        return None
    since, requests, rows, _, version, *_ = _LAYOUT.unpack(page)
    granted = seconds + rows * ROW_SECONDS
    late = version != 0 and time.monotonic_ns() - since > granted * 1e9
    return (since, requests, version) if late else None
