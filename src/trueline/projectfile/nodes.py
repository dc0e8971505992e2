"""A YAML text as a tree that remembers where each value was written, and one tree laid over another.

The tree is made once, before anything is read: a key written twice, a key that is no text and a file of endless aliases
are refused here. Laying an overlay over it is then three rules on plain values (as JSON Merge Patch, RFC 7396): mappings
merge, anything else replaces, and null takes the key away, so that its default is in force again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn, cast

import yaml

from trueline.errors import InvalidProject

MOST = 10_000
"""Values in one file; aliases of aliases would make it endless otherwise."""

NULL = "tag:yaml.org,2002:null"
TEXT = "tag:yaml.org,2002:str"
MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Node:
    """One value: the file, the dotted key and the lines it was written at, and what stands there."""

    file: str
    key: str
    line: int
    content: yaml.ScalarNode | tuple[Node, ...] | Mapping[str, Node]
    key_line: int = 0
    name_is_text: bool = True

    @property
    def members(self) -> Mapping[str, Node] | None:
        return self.content if isinstance(self.content, Mapping) else None

    @property
    def items(self) -> tuple[Node, ...] | None:
        return self.content if isinstance(self.content, tuple) else None

    @property
    def text(self) -> str | None:
        """A scalar as it was typed; None for lists, mappings and null."""
        return str(self.content.value).strip() if isinstance(self.content, yaml.ScalarNode) and not self.null else None

    @property
    def null(self) -> bool:
        return isinstance(self.content, yaml.ScalarNode) and self.content.tag == NULL

    def find(self, *names: str) -> Node | None:
        """The value some mappings further in; None where nothing, or null, is written."""
        found: Node | None = self
        for name in names:
            found = (found.members or {}).get(name) if found is not None else None
        return None if found is None or found.null else found

    def path(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name

    def wrong(self, expected: str) -> NoReturn:
        if isinstance(self.content, yaml.ScalarNode):
            got = repr(self.content.value)
        else:
            got = "a list" if self.items is not None else "a mapping"
        place = f"{self.file}:{self.line}" + (f": {self.key}" if self.key else "")
        raise InvalidProject(f"{place}: expected {expected}, got {got}")

    def plain(self) -> Any:
        """The value as YAML means it: numbers, booleans and dates where they look like it."""
        if self.members is not None:
            for node in self.members.values():
                if not node.name_is_text:
                    self.wrong("parameter names that are texts")
            return {name: node.plain() for name, node in self.members.items()}
        if self.items is not None:
            return [node.plain() for node in self.items]
        try:
            return yaml.SafeLoader("").construct_object(self.content)
        except (yaml.YAMLError, ValueError, TypeError) as problem:
            said = " ".join(str(problem).split())
            raise InvalidProject(f"{self.file}:{self.line}: {self.key}: {said}") from problem


def compose(text: str, file: str) -> Node | None:
    """The tree of a text; None when there is nothing in it.

    Raises:
        InvalidProject: it is not YAML, or not a tree of values under texts.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        return None if root is None else _Planting(file).node("", root, root.start_mark.line + 1)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        said = getattr(problem, "problem", None) or str(problem).splitlines()[0]
        raise InvalidProject(f"{file}{line}: this is not valid YAML: {said}") from problem
    except RecursionError as problem:
        raise InvalidProject(f"{file}: this is not valid YAML: it is nested without end") from problem
    except ValueError as problem:
        raise InvalidProject(f"{file}: this is not valid YAML: {problem}") from problem


@dataclass
class _Planting:
    """One file becoming a tree, its values counted."""

    file: str
    count: int = 0

    def node(self, key: str, raw: yaml.Node, key_line: int, *, name_is_text: bool = True) -> Node:
        self.count += 1
        if self.count > MOST:
            raise InvalidProject(f"{self.file}: the file has more than {MOST} values; aliases (*name) count each time")
        content: yaml.ScalarNode | tuple[Node, ...] | Mapping[str, Node]
        if isinstance(raw, yaml.MappingNode):
            content = self.members(key, raw)
        elif isinstance(raw, yaml.SequenceNode):
            content = tuple(
                self.node(f"{key}[{n}]", item, item.start_mark.line + 1) for n, item in enumerate(raw.value)
            )
        else:
            content = cast("yaml.ScalarNode", raw)
        return Node(self.file, key, raw.start_mark.line + 1, content, key_line, name_is_text)

    def members(self, key: str, raw: yaml.MappingNode) -> Mapping[str, Node]:
        found: dict[str, Node] = {}
        for name_node, value in raw.value:
            line = name_node.start_mark.line + 1
            name = str(name_node.value)
            path = f"{key}.{' '.join(name.split())}".lstrip(".")
            if name_node.tag == MERGE:
                raise InvalidProject(f"{self.file}:{line}: {path}: merge keys are not read; write the values out")
            if name in found:
                raise InvalidProject(f"{self.file}:{line}: {path}: the key is there twice; keep one")
            found[name] = self.node(path, value, line, name_is_text=name_node.tag == TEXT)
        return found


def lay_over(base: Node | None, overlay: Node) -> Node:
    """`overlay` over `base`: mappings merge, anything else replaces, null takes away."""
    if overlay.members is None:
        return overlay
    members = dict((base.members if base is not None else None) or {})
    for name, node in overlay.members.items():
        if node.null:
            members.pop(name, None)
        else:
            members[name] = lay_over(members.get(name), node)
    place = base if base is not None and base.members is not None else overlay
    return replace(place, content=members)


def empty(parent: Node, name: str) -> Node:
    """A mapping nobody wrote, at the place where it would be."""
    return Node(parent.file, parent.path(name), parent.line, {}, parent.line)
