"""The port to whatever keeps whole files under keys, and the one that is a folder.

A key is a path with slashes. An object is there whole or not at all, and is as a rule never changed: writing it again
with what it holds is harmless. Every refusal is `Unavailable` with one sentence, for whoever asked tries again.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from trueline.errors import NotFound, Unavailable

CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Stamp:
    """What a listing tells of an object."""

    size: int
    changed_at: datetime


class Objects(Protocol):
    """Where artefacts and shipped segments are kept."""

    @property
    def shown(self) -> str:
        """What it is called in sentences: its address."""

    def put(self, key: str, source: Path) -> None:
        """Keep a file's bytes under this key."""

    def read(self, key: str) -> Iterator[bytes]:
        """The object's bytes, part by part; NotFound, at the latest with the first part, when there is none."""

    def stamp(self, key: str) -> Stamp | None:
        """What is known of the object without reading it; None when there is none."""

    def list(self, prefix: str) -> dict[str, Stamp]:
        """Every object whose key begins with the folder `prefix`, by key."""


class Folder:
    """Objects as files of a folder, which may be one that several machines share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def shown(self) -> str:
        return str(self._root)

    def put(self, key: str, source: Path) -> None:
        path = self._root / key
        draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident():x}.draft")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, draft)
            draft.replace(path)
        except OSError as problem:
            raise self._unavailable("written", key, problem) from problem

    def read(self, key: str) -> Iterator[bytes]:
        try:
            with (self._root / key).open("rb") as file:
                while part := file.read(CHUNK):
                    yield part
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as problem:
            raise NotFound(f"there is no {key} in {self.shown}") from problem
        except OSError as problem:
            raise self._unavailable("read", key, problem) from problem

    def stamp(self, key: str) -> Stamp | None:
        try:
            return _stamp(self._root / key) if (self._root / key).is_file() else None
        except OSError as problem:
            raise self._unavailable("read", key, problem) from problem

    def list(self, prefix: str) -> dict[str, Stamp]:
        try:
            found = sorted(path for path in (self._root / prefix).rglob("*") if path.is_file())
            whole = [path for path in found if not (path.name.startswith(".") and path.name.endswith(".draft"))]
            return {path.relative_to(self._root).as_posix(): _stamp(path) for path in whole}
        except OSError as problem:
            raise self._unavailable("listed", prefix, problem) from problem

    def _unavailable(self, done: str, key: str, problem: OSError) -> Unavailable:
        why = problem.strerror or str(problem)
        return Unavailable(f"{key} in the storage folder {self.shown} cannot be {done} ({why}); see to that folder")


def _stamp(path: Path) -> Stamp:
    facts = path.stat()
    return Stamp(facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))
