"""What a step returns, as files that execute nothing when they are read, and back again.

A value is a tree. Lists, tuples and dicts are its branches, so that a step that takes one of several outputs depends on
that one alone. Its leaves are files: JSON for plain values, Arrow for data frames, npy for arrays, skops for estimators and
other objects whose types come from a numerical library or from the project itself. There is no pickle: what none of
these forms keeps is refused with a sentence when the step returns it, not when another one needs it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from trueline.errors import TrainingFailed
from trueline.pipelines.outputs import Outputs

Tree = Mapping[str, Any]

PLAIN = (type(None), bool, int, float, str)
BRANCHES = ("list", "tuple", "dict")


def keep(value: Any, outputs: Outputs, project: Path, what: str) -> Tree:
    """Write the value's files; the tree that `load` needs.

    Raises:
        TrainingFailed: a part of the value has no form to be kept in.
    """
    if _plain(value):
        return _leaf("json", *outputs.put_bytes(json.dumps(value).encode()))
    kind = type(value)
    if kind in (list, tuple):
        parts = [keep(part, outputs, project, f"{what}[{place}]") for place, part in enumerate(value)]
        return {"kind": kind.__name__, "items": parts}
    if kind is dict:
        if odd := next((name for name in value if type(name) is not str), None):
            raise TrainingFailed(f"{what} is a dict with the key {odd!r}; keys that are kept are texts")
        return {
            "kind": "dict",
            "items": {name: keep(one, outputs, project, f"{what}[{name!r}]") for name, one in value.items()},
        }
    if kind in (datetime, date, timedelta):
        said = value.total_seconds() if isinstance(value, timedelta) else value.isoformat()
        return _leaf(kind.__name__, *outputs.put_bytes(json.dumps(said).encode()))
    if kind is bytes:
        return _leaf("bytes", *outputs.put_bytes(value))
    from trueline.pipelines import files  # noqa: PLC0415  it brings Arrow, NumPy and skops, which plain values need not

    form = files.form_of(value)
    return _leaf(form, *outputs.put(lambda path: files.write(form, value, path, project, what)))


def load(tree: Tree, outputs: Outputs, project: Path, path: Sequence[Any] = ()) -> Any:
    """The value, or the part of it that `path` leads to.

    Raises:
        Damaged: a file of it is missing or not what it was.
    """
    tree, rest = descend(tree, path)
    value = _whole(tree, outputs, project)
    for key in rest:
        value = value[key]
    return value


def descend(tree: Tree, path: Sequence[Any]) -> tuple[Tree, Sequence[Any]]:
    """The branch as far as the path leads through branches, and what is left of the path inside a leaf."""
    for place, key in enumerate(path):
        if tree["kind"] not in BRANCHES:
            return tree, path[place:]
        try:
            tree = tree["items"][key]
        except (LookupError, TypeError):
            raise TrainingFailed(f"there is no {key!r} in it; it has {_members(tree)}") from None
    return tree, ()


def digest(tree: Tree, path: Sequence[Any] = ()) -> str:
    """What names the value, or a part of it, in the keys of the steps that take it."""
    tree, rest = descend(tree, path)
    return hashlib.sha256(json.dumps([tree, list(rest)], sort_keys=True).encode()).hexdigest()


def leaves(tree: Tree) -> Iterator[tuple[str, int]]:
    """Digest and size of every file of it."""
    if tree["kind"] not in BRANCHES:
        yield tree["digest"], tree["size"]
        return
    items = tree["items"]
    for part in items.values() if isinstance(items, Mapping) else items:
        yield from leaves(part)


def present(tree: Tree, outputs: Outputs) -> bool:
    """Whether every file of it is there, as far as names and sizes tell."""
    return all(outputs.has(name, size) for name, size in leaves(tree))


def _whole(tree: Tree, outputs: Outputs, project: Path) -> Any:
    kind, items = tree["kind"], tree.get("items")
    if kind == "dict":
        return {name: _whole(part, outputs, project) for name, part in (items or {}).items()}
    if kind in BRANCHES:
        parts = [_whole(part, outputs, project) for part in items or ()]
        return tuple(parts) if kind == "tuple" else parts
    path = outputs.checked(tree["digest"])
    if kind == "bytes":
        return path.read_bytes()
    if kind in ("json", "datetime", "date", "timedelta"):
        said = json.loads(path.read_bytes())
        return _moment(kind, said) if kind != "json" else said
    from trueline.pipelines import files  # noqa: PLC0415  as above

    return files.read(kind, path, project)


def _moment(kind: str, said: Any) -> Any:
    if kind == "timedelta":
        return timedelta(seconds=said)
    return datetime.fromisoformat(said) if kind == "datetime" else date.fromisoformat(said)


def _plain(value: Any) -> bool:
    """Whether JSON gives it back exactly as it is."""
    kind = type(value)
    if kind is list:
        return all(map(_plain, value))
    if kind is dict:
        return all(type(name) is str and _plain(one) for name, one in value.items())
    return kind in PLAIN


def _leaf(kind: str, name: str, size: int) -> Tree:
    return {"kind": kind, "digest": name, "size": size}


def _members(tree: Tree) -> str:
    items = tree["items"]
    return ", ".join(map(repr, items)) if isinstance(items, Mapping) else f"{len(items)} parts"


def module_file(name: str) -> str | None:
    """Where the module of a type's full name was read from; classes inside classes have longer names."""
    module = name.rpartition(".")[0]
    while module:
        if (found := sys.modules.get(module)) is not None:
            return getattr(found, "__file__", None)
        module = module.rpartition(".")[0]
    return None
