"""What stands in a tracking journal: one kind of line per thing that may be said about a run.

`run` is empty for the run itself and a key for a run nested in it, which an entry of its own has announced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metric:
    name: str
    value: float
    step: int
    at_ms: int
    run: str = ""
    model: str | None = None  # the logged model it belongs to, where MLflow was told


@dataclass(frozen=True)
class Param:
    name: str
    value: str
    run: str = ""


@dataclass(frozen=True)
class Tag:
    name: str
    value: str
    run: str = ""


@dataclass(frozen=True)
class Nested:
    """A run inside the run began."""

    run: str
    name: str
    at_ms: int
    parent: str = ""


@dataclass(frozen=True)
class Ended:
    """A nested run ended."""

    run: str
    status: str
    at_ms: int


@dataclass(frozen=True)
class Input:
    """A data set that MLflow was told of."""

    dataset: Mapping[str, str]  # name, digest, source_type, source, schema, profile
    tags: Mapping[str, str] = field(default_factory=dict)
    run: str = ""


@dataclass(frozen=True)
class Model:
    """A model that user code logged with MLflow; its files are in the run's folder."""

    model: str
    name: str
    kind: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    run: str = ""


Entry = Metric | Param | Tag | Nested | Ended | Input | Model

KINDS: dict[str, type[Entry]] = {"g": Tag, "n": Nested, "e": Ended, "i": Input, "l": Model}


def encode(entry: Entry) -> str:
    r"""The entry as a line.

    >>> encode(Param("depth", "6"))
    '{"p": "depth", "v": "6"}\n'
    >>> decode(encode(Tag("team", "growth")).encode())
    Tag(name='team', value='growth', run='')
    """
    plain: dict[str, Any]
    if isinstance(entry, Metric):
        plain = {"m": entry.name, "v": entry.value, "s": entry.step, "t": entry.at_ms}
    elif isinstance(entry, Param):
        plain = {"p": entry.name, "v": entry.value}
    else:
        (kind,) = (letter for letter, of in KINDS.items() if isinstance(entry, of))
        return json.dumps({"k": kind, **asdict(entry)}) + "\n"
    if entry.run:
        plain["r"] = entry.run
    if isinstance(entry, Metric) and entry.model is not None:
        plain["l"] = entry.model
    return json.dumps(plain) + "\n"


def decode(line: bytes) -> Entry | None:
    """The entry of a line; none for a line torn by a full disk, with whole lines behind it."""
    try:
        plain = json.loads(line)
        if "m" in plain:
            run, model = plain.get("r", ""), plain.get("l")
            return Metric(plain["m"], float(plain["v"]), int(plain["s"]), int(plain["t"]), run, model)
        if "p" in plain:
            return Param(plain["p"], plain["v"], plain.get("r", ""))
        return KINDS[plain.pop("k")](**plain)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
