"""From a project file's text to the frozen values of `domain.project`.

Every error names the file, the line, the key, what was expected and what was there; a misspelt key is told the nearest
name; a key of a later version of trueline is refused, never ignored.
"""

from __future__ import annotations

import difflib
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any, NoReturn

from trueline.domain.project import Project
from trueline.errors import InvalidProject
from trueline.projectfile.keys import FIXED, LATER, PROJECT, Group, Key
from trueline.projectfile.nodes import Node, compose, empty, lay_over


def load(path: Path, target: str | None = None) -> Project:
    """Read a project file, as it is in one environment or in none.

    Raises:
        InvalidProject: it is missing, not YAML, or a key of it is wrong; or it has no such target.
    """
    return parse(text_of(path), path.name, target)


def text_of(path: Path) -> str:
    """A project file's text.

    Raises:
        InvalidProject: it is missing or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as problem:
        raise InvalidProject(f"there is no project file {path}; make one with: trueline init") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise InvalidProject(f"the project file {path} cannot be read: {problem}") from problem


def parse(text: str, file: str = "trueline.yaml", target: str | None = None) -> Project:
    """The project that a text declares; see `load`. Every target's overlay is read, so that none is found wrong late."""
    top = tree(text, file)
    project: Project = group_value(PROJECT, top)
    found = {name: overlaid(top, name) for name in project.targets}
    projects = {name: group_value(PROJECT, merged) for name, merged in found.items()}
    if target is None:
        return project
    if target not in projects:
        _no_such_target(file, target, project.targets)
    chosen: Project = replace(projects[target], target=target)
    return chosen


def tree(text: str, file: str) -> Node:
    """What the text says, read no further than its YAML."""
    top = compose(text, file)
    if top is None:
        raise InvalidProject(f"{file}: the file is empty; make one with: trueline init")
    return top


def overlaid(top: Node, target: str) -> Node:
    """The whole file with one target's overlay laid over it."""
    overlay = top.find("targets", target)
    if overlay is None or overlay.members is None:
        return top
    for name in FIXED:
        if (fixed := overlay.find(name)) is not None:
            said = f"{fixed.file}:{fixed.key_line}: {fixed.key}"
            raise InvalidProject(
                f"{said}: a target cannot change this; it is the same everywhere, at the top of the file"
            )
    return lay_over(top, overlay)


def group_value(group: Group, node: Node, path: str = "") -> Any:
    """A mapping as its dataclass."""
    if node.members is None:
        node.wrong("a mapping of keys to values")
    if not group.inline:
        _only_known(group, node, path)
    given: dict[str, Any] = {}
    for member in group.members:
        value = _member(group, member, node, path)
        if value is not MISSING and member.attribute:
            given[member.attribute] = value
    return group.settle(node, group.make(**given))


def _member(group: Group, member: Key | Group, node: Node, path: str) -> Any:
    """A member's value; MISSING where its default is in force."""
    if isinstance(member, Group) and member.inline:
        return group_value(member, node, path)
    found = node.find(member.name)
    if found is None and group.default(member) is MISSING:
        raise InvalidProject(
            f"{node.file}:{node.line}: {node.path(member.name)} is missing; it is one of the facts trueline needs"
        )
    if isinstance(member, Group):
        dotted = f"{path}.{member.name}".lstrip(".")
        return group_value(member, found if found is not None else empty(node, member.name), dotted)
    return MISSING if found is None else member.kind.read(found)


def _only_known(group: Group, node: Node, path: str) -> None:
    known = group.names()
    for name, found in (node.members or {}).items():
        if name not in known:
            _unknown(found, f"{path}.{name}".lstrip("."), name, known)


def _unknown(node: Node, path: str, name: str, known: tuple[str, ...]) -> NoReturn:
    where = f"{node.file}:{node.key_line}: {node.key}"
    if path in LATER:
        raise InvalidProject(f"{where}: {LATER[path]} are not supported yet; remove the key")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    raise InvalidProject(f"{where}: there is no such key; {hint}")


def _no_such_target(file: str, target: str, known: tuple[str, ...]) -> NoReturn:
    if not known:
        raise InvalidProject(
            f"{file} has no targets, so there is no target {target!r}; add targets: {{{target}: {{}}}}"
        )
    near = difflib.get_close_matches(target, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise InvalidProject(f"{file} has no target {target!r}; {hint}")
