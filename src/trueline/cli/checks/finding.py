"""What a check is given, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trueline.domain.project import Project
from trueline.settings import StateFolder

GOOD, DOUBTFUL, BAD = "good", "doubtful", "bad"


@dataclass(frozen=True)
class Finding:
    """`good`, `doubtful` or `bad`, what was seen, and what to do about it."""

    state: str
    seen: str
    remedy: str = ""


@dataclass(frozen=True)
class Patient:
    """What is looked at. `project` is None while its file cannot be read."""

    file: Path
    folder: StateFolder
    target: str | None
    project: Project | None

    @property
    def root(self) -> Path:
        return self.file.absolute().parent


def good(seen: str) -> Finding:
    return Finding(GOOD, seen)


def doubtful(seen: str, remedy: str) -> Finding:
    return Finding(DOUBTFUL, seen, remedy)


def bad(seen: str, remedy: str = "") -> Finding:
    return Finding(BAD, seen, remedy)
