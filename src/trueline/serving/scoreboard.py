"""Which version is being scored at this moment, in a file that outlives the process.

The page of a shared mapping belongs to the kernel, so after `kill -9` or a segmentation fault in native code the next
start finds what was written last, and journals it as a bad event of that version. Writing costs one memory store.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

_LAYOUT = struct.Struct("<qqq")  # version (0: none), requests, event time of the first of them


@dataclass(frozen=True)
class Unfinished:
    version: int
    requests: int
    event_us: int


class Scoreboard:
    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # its block is taken now: a store to a mapped hole on a full disk would be the death of the process (SIGBUS)
            os.posix_fallocate(descriptor, 0, _LAYOUT.size)
            self._map = mmap.mmap(descriptor, _LAYOUT.size)
        finally:
            os.close(descriptor)

    def unfinished(self) -> Unfinished | None:
        """What the process before this one was scoring when it died."""
        version, requests, event_us = _LAYOUT.unpack_from(self._map)
        return Unfinished(version, requests, event_us) if version else None

    def begin(self, version: int, requests: int, event_us: int) -> None:
        _LAYOUT.pack_into(self._map, 0, version, requests, event_us)

    def end(self) -> None:
        _LAYOUT.pack_into(self._map, 0, 0, 0, 0)

    def close(self) -> None:
        self._map.close()
