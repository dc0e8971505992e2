"""What a run's processes have printed, as far as a reader has not seen it: live while it runs, whole afterwards.

Each step prints to a file of its own, the rest of the run to another. A cursor holds how far each was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trueline.errors import InvalidInput, NotFound
from trueline.pipelines.spec import LOG, step_folder

MOST_BYTES = 256 * 1024
"""In one answer; the rest is in the next."""


@dataclass(frozen=True)
class Chunk:
    step: str | None  # None: what is no step's, a whole fit or the packaging after the steps
    text: str  # whole lines


@dataclass(frozen=True)
class Logs:
    items: tuple[Chunk, ...]
    next: str  # where to read on
    ended: bool  # nothing more will come


def read(folder: Path, names: Sequence[str], *, step: str | None, after: str | None, ended: bool) -> Logs:
    """What is behind the cursor in the run's folder. `ended` tells that it was over before this look.

    Raises:
        NotFound: the run has no such step.
        InvalidInput: the cursor is none of ours.
    """
    if step is not None and step not in names:
        raise NotFound(f"the run has no step {step}; it has {', '.join(names) or 'none'}")
    files = {name: step_folder(folder, name) / LOG for name in names} | {"": folder / LOG}
    wanted = [step] if step is not None else list(files)
    offsets = _offsets(after)
    left, items, whole = MOST_BYTES, [], True
    for name in wanted:
        found, offsets[name], all_of_it = _behind(files[name], offsets.get(name, 0), left, ended=ended)
        whole &= all_of_it
        left -= len(found)
        if found:
            items.append(Chunk(name or None, found.decode(errors="replace")))
    cursor = ",".join(f"{name}:{offset}" for name, offset in offsets.items())
    return Logs(tuple(items), cursor, ended and whole)


def _behind(path: Path, offset: int, limit: int, *, ended: bool) -> tuple[bytes, int, bool]:
    """Whole lines behind the offset, the next offset, and whether that is all there is; a file begun anew is read anew."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            offset = offset if offset <= size else 0
            file.seek(offset)
            found = file.read(max(0, limit))
    except FileNotFoundError:
        return b"", offset, True
    if offset + len(found) < size or not ended:
        line_end = found.rfind(b"\n") + 1
        found = found[:line_end] if line_end or len(found) < MOST_BYTES else found
    return found, offset + len(found), offset + len(found) >= size


def _offsets(cursor: str | None) -> dict[str, int]:
    found = {}
    for part in cursor.split(",") if cursor else ():
        name, _, offset = part.rpartition(":")
        if not (offset.isascii() and offset.isdigit() and len(offset) < 19):
            raise InvalidInput(f"the cursor {cursor!r} is not one of logs; start again without it")
        found[name] = int(offset)
    return found
