"""What a value of the project file can be: how it is read, how it is written again, and its JSON Schema.

Texts are read as they were typed, so `5%`, `2x` and `off` mean what a person means by them and not what YAML makes of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trueline.projectfile.nodes import Node
from trueline.settings import shown

VERSION = 1


@dataclass(frozen=True)
class Kind:
    """One kind of value. What `write` writes, `read` reads as it was, and `schema` accepts; null is not among them."""

    expects: str
    read: Callable[[Node], Any]
    schema: Mapping[str, Any]
    write: Callable[[Any], str] = str
    none: str = "null"

    def show(self, value: Any) -> str:
        """The value as it would stand in the file."""
        return self.none if value is None else self.write(value)


def typed(node: Node, expected: str = "a text") -> str:
    """A scalar as it was typed."""
    found = node.text
    if not found:
        node.wrong(expected)
    return found


def _matching(expects: str, pattern: str) -> Kind:
    def read(node: Node) -> str:
        found = typed(node)
        if not re.fullmatch(pattern, found):
            node.wrong(expects)
        return found

    return Kind(expects, read, {"type": "string", "pattern": f"^{pattern}$"}, scalar)


_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"


def scalar(text: str) -> str:
    """A YAML scalar, scalar only where plain text could be read as something else.

    >>> scalar("data/flights.csv"), scalar("yes"), scalar("a: b")
    ('data/flights.csv', '"yes"', '"a: b"')
    """
    first, rest = text[:1], text[1:]
    plain = (
        (first.isalpha() or first in "/_" or text.startswith(("./", "../")))
        and all(c.isalnum() or c in "./_-:" for c in rest)
        and ": " not in text
    )
    words = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
    return (
        text if plain and not text.endswith(":") and text.lower() not in words else json.dumps(text, ensure_ascii=False)
    )


TEXT = Kind("a text", typed, {"type": "string", "pattern": r"\S"}, scalar)
NAME = _matching("a name of letters, digits, dots, dashes and underscores", _NAME)
ENTRY = _matching("a function, as file.py:function", r"[^:\s]+\.py:[A-Za-z_][A-Za-z0-9_]*")


def _version(node: Node) -> int:
    if typed(node) != str(VERSION):
        node.wrong(f"version {VERSION}, the newest this trueline knows")
    return VERSION


VERSIONS = Kind(f"the number {VERSION}", _version, {"const": VERSION})


def _boolean(node: Node) -> bool:
    found = typed(node, "true or false").lower()
    if found not in {"true", "false"}:
        node.wrong("true or false")
    return found == "true"


BOOLEAN = Kind("true or false", _boolean, {"type": "boolean"}, lambda value: str(value).lower())


def one_of(*allowed: str) -> Kind:
    expects = f"one of {', '.join(allowed)}"

    def read(node: Node) -> str:
        found = typed(node)
        if found not in allowed:
            node.wrong(expects)
        return found

    return Kind(expects, read, {"enum": list(allowed)})


def _texts(node: Node) -> tuple[str, ...]:
    if node.items is None:
        node.wrong("a list of texts, as [a, b]")
    return tuple(map(typed, node.items))


TEXTS = Kind(
    "a list of texts, as [a, b]",
    _texts,
    {"type": "array", "items": TEXT.schema},
    lambda found: f"[{', '.join(map(scalar, found))}]",
)


def _parameters(node: Node) -> Mapping[str, Any]:
    if node.members is None:
        node.wrong("a mapping of parameter names to values")
    return dict(node.plain())


PARAMETERS = Kind(
    "a mapping of parameter names to values",
    _parameters,
    {"type": "object"},
    lambda found: json.dumps(found, ensure_ascii=False, default=str),
)


_REFERENCE = "a URL, or a reference to one as env:NAME or file:PATH"
ENGINE = Kind(
    _REFERENCE,
    lambda node: typed(node, _REFERENCE),
    TEXT.schema,
    lambda value: scalar(shown(value)),
)


def _targets(node: Node) -> tuple[str, ...]:
    if node.members is None:
        node.wrong("a mapping of target names to what differs there")
    for name, overlay in node.members.items():
        if not re.fullmatch(_NAME, name):
            overlay.wrong(f"a target's name of letters, digits, dots, dashes and underscores instead of {name!r}")
        if overlay.members is None and not overlay.null:
            overlay.wrong("a mapping of what differs there")
    return tuple(node.members)


TARGETS = Kind(
    "a mapping of target names to what differs there",
    _targets,
    {"type": "object"},
    lambda names: f"{{{', '.join(f'{name}: {{}}' for name in names)}}}",
)
