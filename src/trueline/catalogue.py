"""The registered versions of a project as its model servers may know them: one file, written by control.

A server routes nothing by it. It is what `load` can be asked for by number, when the route table does not have it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trueline.errors import Unavailable


@dataclass(frozen=True)
class Entry:
    version: int
    path: str  # of the model's folder, relative to the state folder
    digest: str
    state: str  # candidate | approved | rejected


def read(path: Path) -> tuple[Entry, ...]:
    """The versions, newest first; none when there is no such file yet."""
    try:
        return tuple(Entry(**fields) for fields in json.loads(path.read_text()))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as problem:
        raise Unavailable(f"{path} cannot be read ({problem}); control writes it anew when it is removed") from problem


def write(path: Path, entries: Sequence[Entry]) -> None:
    """Replace the file atomically, when it says something else.

    Raises:
        Unavailable: it cannot be written (a full disk, most likely).
    """
    text = json.dumps([asdict(entry) for entry in entries])
    draft = path.with_suffix(f".draft-{os.getpid()}")
    try:
        if path.exists() and path.read_text() == text:
            return
        draft.write_text(text)
        os.replace(draft, path)  # noqa: PTH105 the atomic call, by its name
    except OSError as problem:
        raise Unavailable(
            f"{path} cannot be written ({problem.strerror or problem}); servers do not learn of new versions until it can"
        ) from problem
