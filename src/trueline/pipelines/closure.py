"""The code that a training depends on: its module and every module of the project that it reaches by imports.

The walk is static (imports anywhere in a file count, also those inside functions; what is imported by a computed name
is not seen). A file counts by its syntax tree, so that comments, blank lines and formatting do not train anything anew;
docstrings do count, as code may read them.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from trueline.errors import TrainingFailed
from trueline.pipelines.user_code import split_entry


def closure(project: Path, entry: str) -> dict[str, str]:
    """The digest of every project file that `module.py:function` reaches, by path relative to the project."""
    file, _ = split_entry(entry)
    start = project / file
    if not start.is_file():
        raise TrainingFailed(f"{entry}: there is no file {file} in {project}; correct `train` in trueline.yaml")
    return files_reached(start.resolve(), (start.parent.resolve(), project.resolve()))


def files_reached(start: Path, roots: tuple[Path, ...]) -> dict[str, str]:
    """The digest of a file and of all it imports below the roots; names are relative to the last root."""
    found: dict[str, str] = {}
    waiting = [start]
    while waiting:
        path = waiting.pop()
        name = _name(path, roots[-1])
        if name in found:
            continue
        tree = parse(path, name)
        found[name] = hashlib.sha256(ast.dump(tree, annotate_fields=False).encode()).hexdigest()
        waiting.extend(imported(tree, path, roots))
    return dict(sorted(found.items()))


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def parse(path: Path, name: str) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as problem:
        line = getattr(problem, "lineno", None)
        raise TrainingFailed(f"{name}:{line or 1}: not valid Python: {getattr(problem, 'msg', problem)}") from problem


def imported(tree: ast.AST, path: Path, roots: tuple[Path, ...]) -> Iterator[Path]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _resolve(alias.name.split("."), roots)
        elif isinstance(node, ast.ImportFrom):
            parts = node.module.split(".") if node.module else []
            bases = roots
            if node.level:
                folder = path.parent
                for _ in range(node.level - 1):
                    folder = folder.parent
                bases = (folder,)
                yield from _files(folder)
            yield from _resolve(parts, bases)
            for alias in node.names:
                yield from _resolve([*parts, alias.name], bases)


def _resolve(parts: list[str], bases: tuple[Path, ...]) -> Iterator[Path]:
    """The files that importing a dotted name executes, as far as they are the project's."""
    for base in bases:
        folder, found = base, False
        for part in parts:
            module = folder / f"{part}.py"
            folder = folder / part
            if module.is_file():
                found = True
                yield module.resolve()
            elif folder.is_dir():
                found = True
                yield from _files(folder)
            else:
                break
        if found:
            return


def _files(package: Path) -> Iterator[Path]:
    if (package / "__init__.py").is_file():
        yield (package / "__init__.py").resolve()
