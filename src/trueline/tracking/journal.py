"""The tracking journal of a run: what training code logs, appended to one file and never waited for.

One line of JSON per call, one `write()` per line: a line is in the file when `log` returns, so it survives the death of
the process, and a reader sees whole lines except perhaps the last. `read` goes on from where it stopped, so a line is
handed over again only when the reader did not keep its offset.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueline.errors import InvalidInput

NAME = "tracking.jsonl"
LONGEST_KEY = 250  # MLflow's limit
LONGEST_VALUE = 6000  # MLflow's limit of a parameter


@dataclass(frozen=True)
class Metric:
    name: str
    value: float
    step: int
    at_ms: int


@dataclass(frozen=True)
class Param:
    name: str
    value: str


Entry = Metric | Param


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

    def close(self) -> None:
        os.close(self._file)


_current: Journal | None = None


def begin(folder: Path) -> Journal:
    """Send what this process logs from now on to the run of this folder."""
    global _current  # noqa: PLW0603  a process trains one run; user code has no handle to pass
    _current = Journal(folder)
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


def read(folder: Path, offset: int = 0, limit: int = 1_000) -> tuple[list[Entry], int]:
    """At most `limit` entries from `offset` on, and the offset after them; an unfinished last line waits."""
    try:
        with (folder / NAME).open("rb") as file:
            file.seek(offset)
            entries: list[Entry] = []
            for line in file:
                if len(entries) == limit or not line.endswith(b"\n"):
                    break
                offset += len(line)
                if (entry := _entry(line)) is not None:
                    entries.append(entry)
    except FileNotFoundError:
        return [], offset
    return entries, offset


def _entry(line: bytes) -> Entry | None:
    try:
        fields = json.loads(line)
        if "m" in fields:
            return Metric(fields["m"], float(fields["v"]), int(fields["s"]), int(fields["t"]))
        return Param(fields["p"], fields["v"])
    except (ValueError, KeyError, TypeError):  # a line torn by a full disk, with whole lines behind it
        return None


def _key(name: str) -> str:
    if not isinstance(name, str) or not name or len(name) > LONGEST_KEY:
        raise InvalidInput(f"a metric or parameter is named by a text of 1 to {LONGEST_KEY} characters, not {name!r}")
    return name


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _warn(what: str) -> None:
    warnings.warn(f"trueline.{what} was called outside a training run and records nothing", stacklevel=3)
