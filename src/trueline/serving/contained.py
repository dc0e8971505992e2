"""Versions that get a process of their own on this machine, whatever their executor, because a server died of them.

A version whose executor runs inside the serving process can take it along: native code crashes, or never comes back.
What was being scored is on the scoreboard, so the next start knows the version; from then on it is loaded into a child
process, where the same thing costs that version alone and the champion answers. That holds for the champion too.

One small file for each digest, in the state folder: for all replicas of the machine and every later start. Whoever
knows better deletes it. A process that somebody killed from outside accuses nobody: a signal 9 says nothing of models.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)


class Contained:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, digest: str, reason: str) -> None:
        """Remember; a disk that is full makes the next start try the version in the server once more."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self.path(digest).write_text(f"{reason}\n")
        except OSError as problem:
            log.warning("%s cannot be written: %s", self.path(digest), problem.strerror or problem)

    def path(self, digest: str) -> Path:
        return self._folder / digest.replace("/", "_")

    def __contains__(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def all(self) -> Mapping[str, str]:
        """The reason for each digest."""
        try:
            return {path.name: path.read_text().strip() for path in sorted(self._folder.iterdir())}
        except OSError:
            return {}
