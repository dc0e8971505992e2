"""Each key's value in force, and who said so: the file, a target's overlay, or nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from trueline.domain.project import Project
from trueline.projectfile import reading
from trueline.projectfile.keys import Place, walk
from trueline.projectfile.kinds import PARAMETERS, VERSION
from trueline.projectfile.nodes import Node


@dataclass(frozen=True)
class Source:
    """Where a value in force came from."""

    kind: str  # default | file | target | inferred | environment | .env | user config | flag
    at: str = ""  # trueline.yaml:7, or the flag or variable


@dataclass(frozen=True)
class Setting:
    """One key with its value in force, as it would be written."""

    key: str
    value: str
    source: Source
    default: str | None  # None: there is none, the key is a fact
    expects: str
    help: str


def settings(path: Path, target: str | None = None) -> tuple[Setting, ...]:
    """Every key of a project file, in the order of the declaration.

    Raises:
        InvalidProject: as for `load`.
    """
    text = reading.text_of(path)
    project = reading.parse(text, path.name, target)
    top = reading.tree(text, path.name)
    merged = top if target is None else reading.overlaid(top, target)
    return tuple(one for place in walk() for one in _settings(place, project, merged, target))


def _settings(place: Place, project: Project, merged: Node, target: str | None) -> Iterator[Setting]:
    node = merged.find(*place.dotted.split("."))
    value = _value(place, project)
    if place.key.kind is PARAMETERS and node is not None and node.members:
        for name, inner in node.members.items():
            yield _setting(place, f"{place.dotted}.{name}", PARAMETERS.show(value[name]), _source(inner, target), "")
        return
    yield _setting(place, place.dotted, place.key.kind.show(value), _source(node, target), _default(place))


def _setting(place: Place, key: str, value: str, source: Source, default: str | None) -> Setting:
    return Setting(key, value, source, default or None, place.key.kind.expects, place.key.help)


def _value(place: Place, project: Project) -> Any:
    return reduce(getattr, place.attributes, project) if place.key.attribute else VERSION


def _default(place: Place) -> str | None:
    return None if place.default is MISSING else place.key.kind.show(place.default)


def _source(node: Node | None, target: str | None) -> Source:
    if node is None:
        return Source("default")
    overlaid = target is not None and node.key.startswith(f"targets.{target}.")
    return Source("target" if overlaid else "file", f"{node.file}:{node.key_line}")
