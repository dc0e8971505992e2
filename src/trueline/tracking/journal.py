"""The tracking journal of a run: what training code logs, appended to one file and never waited for.

One line of JSON per call, one `write()` per line: a line is in the file when `log` returns, so it survives the death of
the process, and a reader sees whole lines except perhaps the last. `read` goes on from where it stopped, so a line is
handed over again only when the reader did not keep its offset.

A run whose steps train in folders of their own (`steps/<name>`) has a journal in each, and reads as one. An attempt that
begins anew writes a new file and names itself in its first line; a reader that knew the file of another starts over.
"""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trueline.errors import InvalidInput
from trueline.tracking.entries import Entry, decode

NAME = "tracking.jsonl"
ATTEMPT = "attempt"
LONGEST_KEY = 250  # MLflow's limit
LONGEST_VALUE = 6000  # MLflow's limit of a parameter
NAMED = re.compile(r"[\w.\- :/]+")  # what MLflow lets a name consist of


Position = dict[str, str]
"""How far each file of a run was read: its folder, empty for the run's own, to `attempt:bytes`."""


class Journal:
    """The writing side, for one run."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._steps: dict[str, int] = {}
        self._names: dict[str, str] = {}

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Append one value; without a step, the one after the last of this name."""
        number = float(value)
        quoted = self._names.get(name)
        if quoted is None:
            quoted = self._names[name] = json.dumps(_key(name))
        if step is None:
            step = self._steps.get(name, -1) + 1
        self._steps[name] = step
        text = (
            repr(number) if number - number == 0 else json.dumps(number)
        )  # NaN and Infinity as JSON's readers know them
        line = f'{{"m":{quoted},"v":{text},"s":{int(step)},"t":{time.time_ns() // 1_000_000}}}\n'
        os.write(self._file, line.encode())

    def params(self, values: Mapping[str, Any]) -> None:
        lines = "".join(json.dumps({"p": _key(name), "v": _text(value)}) + "\n" for name, value in values.items())
        os.write(self._file, lines.encode())

    def append(self, line: str) -> None:
        """Append what `entries` made of something: whole lines, each with its end."""
        os.write(self._file, line.encode())

    def close(self) -> None:
        os.close(self._file)


_current: Journal | None = None


def begin(folder: Path, attempt: str = "") -> Journal:
    """Send what this process logs from now on to the run of this folder."""
    global _current  # noqa: PLW0603  a process trains one run; user code has no handle to pass
    _current = Journal(folder)
    if attempt:
        _current.append(json.dumps({ATTEMPT: attempt}) + "\n")
    return _current


def end() -> None:
    """Log nowhere again."""
    global _current  # noqa: PLW0603  as above
    if _current is not None:
        _current.close()
    _current = None


def log(name: str, value: float, step: int | None = None) -> None:
    """Record a value of a metric in the run that is being trained; outside a run, warn and do nothing."""
    if _current is None:
        _warn("log")
    else:
        _current.metric(name, value, step)


def log_params(params: Mapping[str, Any]) -> None:
    """Record parameters in the run that is being trained; outside a run, warn and do nothing."""
    if _current is None:
        _warn("log_params")
    else:
        _current.params(params)


def folders(folder: Path) -> list[Path]:
    """Where a run logged: its own folder, then those of its steps."""
    return [folder, *sorted(path.parent for path in folder.glob(f"steps/*/{NAME}"))]


def read(folder: Path, position: Position | None = None, limit: int = 1_000) -> tuple[list[Entry], Position]:
    """At most `limit` entries from `position` on, and the position after them; an unfinished last line waits."""
    after = dict(position or {})
    found: list[Entry] = []
    for one in folders(folder):
        name = "" if one == folder else one.relative_to(folder).as_posix()
        try:
            attempt, size = _attempt(one / NAME)
        except FileNotFoundError:
            continue
        known, _, offset = after.get(name, "").rpartition(":")
        start = int(offset) if offset and known == attempt else 0
        if start < size and len(found) < limit:
            entries, start = _read(one / NAME, start, limit - len(found))
            found += entries
            after[name] = f"{attempt}:{start}"
    return found, after


def everything(folder: Path) -> list[Entry]:
    """All that a run has said so far."""
    found, position = read(folder)
    entries = found
    while entries:
        entries, position = read(folder, position)
        found += entries
    return found


def _attempt(path: Path) -> tuple[str, int]:
    """The name of the attempt that writes this file, and the file's size."""
    with path.open("rb") as file:
        try:
            attempt = str(json.loads(file.readline()).get(ATTEMPT, ""))
        except ValueError:
            attempt = ""
        return attempt, os.fstat(file.fileno()).st_size


def _read(path: Path, offset: int, limit: int) -> tuple[list[Entry], int]:
    entries: list[Entry] = []
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if len(entries) == limit or not line.endswith(b"\n"):
                break
            offset += len(line)
            if (entry := decode(line)) is not None:
                entries.append(entry)
    return entries, offset


def _key(name: str) -> str:
    if not isinstance(name, str) or not name or len(name) > LONGEST_KEY:
        raise InvalidInput(f"a metric or parameter is named by a text of 1 to {LONGEST_KEY} characters, not {name!r}")
    if NAMED.fullmatch(name) is None or os.path.normpath(name) != name or name.startswith(("/", "..")) or name == ".":
        raise InvalidInput(
            f"a metric or parameter cannot be named {name!r}: MLflow takes letters, digits, spaces and _ - . : /, as in 'val/loss'"
        )
    return name


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _warn(what: str) -> None:
    warnings.warn(f"trueline.{what} was called outside a training run and records nothing", stacklevel=3)
