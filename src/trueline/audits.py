"""What somebody had a model server do that control did not order: notes that wait for control to make them events.

A note is a file of its own under a name that comes once. The server writes it, by rename and to the disk, before the deed is acknowledged;
control makes it an event in one transaction and removes it. Killed in between, control finds it again and knows it.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from trueline.errors import Unavailable

LOAD, UNLOAD = "load", "unload"

_numbers = itertools.count()


@dataclass(frozen=True)
class Note:
    deed: str  # load | unload
    version: int
    actor: str
    replica: str
    at_us: int


def put(folder: Path, note: Note) -> None:
    """Leave a note for control.

    Raises:
        Unavailable: it cannot be written, so what it tells of must not be done.
    """
    name = f"{note.at_us:x}-{os.getpid():x}-{next(_numbers):x}"
    draft, path = folder / f"{name}.draft", folder / f"{name}.json"
    try:
        folder.mkdir(exist_ok=True)
        with draft.open("w") as file:
            json.dump(asdict(note), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)  # noqa: PTH105 the atomic call, by its name
    except OSError as problem:
        raise Unavailable(
            f"{path} cannot be written ({problem.strerror or problem}), and nothing is done here without a record of it"
        ) from problem


def waiting(folder: Path) -> list[tuple[Path, Note]]:
    """The notes that are there, oldest first; what is no note is left alone."""
    found: list[tuple[Path, Note]] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append((path, Note(**json.loads(path.read_text()))))
        except (OSError, ValueError, TypeError):
            continue
    return sorted(found, key=lambda one: one[1].at_us)


def now_us() -> int:
    return time.time_ns() // 1000
