"""The code that one step depends on: of its own module the definitions it reaches, of other project modules the whole.

So a step that is mended runs again, and its neighbours in the same file do not. The walk is static, like `closure`: from
the function to the statements that bind the names it uses, and on from those. Statements that bind nothing (a call at the
top of a module) may change anything, so they belong to every step; so does an import whose name nobody uses, for it was
made for its effect. Code that looks names up by text (`globals`, `eval`) may reach everything, and counts as the whole file.

What says how a step runs, not what it computes, is left out: the `@step(...)` above it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from trueline.errors import TrainingFailed
from trueline.pipelines.closure import files_reached, imported, parse

BY_TEXT = frozenset({"globals", "locals", "vars", "eval", "exec", "__import__", "importlib"})
Import = (ast.Import, ast.ImportFrom)


@dataclass
class Reach:
    """The code of the steps of one project; files are read once, so make a new one to see edits."""

    project: Path
    _modules: dict[Path, Module] = field(default_factory=dict)
    _found: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    _files: dict[Path, dict[str, str]] = field(default_factory=dict)

    def of(self, file: str, function: str) -> dict[str, str]:
        """Digest by what it is of: `pipeline.py:fit_a` for the definitions, `features.py` for a whole other file."""
        if (file, function) not in self._found:
            self._found[file, function] = self._of(file, function)
        return self._found[file, function]

    def _of(self, file: str, function: str) -> dict[str, str]:
        path = (self.project / file).resolve()
        module = self._module(path, file)
        if function not in module.binding:
            raise TrainingFailed(f"{file} has no function '{function}' at its top; a step is defined there")
        used = module.used_by(function)
        said = "\n".join(module.said(used, function))
        found = {f"{file}:{function}": hashlib.sha256(said.encode()).hexdigest()}
        roots = (path.parent, self.project.resolve())
        for place in sorted(used):
            for other in imported(module.statements[place], path, roots):
                if other != path:
                    found |= self._whole(other, roots)
        return dict(sorted(found.items()))

    def _module(self, path: Path, file: str) -> Module:
        if path not in self._modules:
            if not path.is_file():
                raise TrainingFailed(f"there is no file {file} in {self.project}; the step's code cannot be read")
            self._modules[path] = Module(parse(path, file))
        return self._modules[path]

    def _whole(self, path: Path, roots: tuple[Path, ...]) -> dict[str, str]:
        if path not in self._files:
            self._files[path] = files_reached(path, (path.parent, *roots[1:]))
        return self._files[path]


@dataclass
class Module:
    """The top-level statements of a file, by the names they bind and use."""

    tree: ast.Module

    @cached_property
    def statements(self) -> list[ast.stmt]:
        return [one for one in self.tree.body if not _is_main(one) and not _is_future(one)]

    @cached_property
    def binding(self) -> dict[str, list[int]]:
        """The statements that make or change each name."""
        found: dict[str, list[int]] = {}
        for place, statement in enumerate(self.statements):
            for name in _bound(statement):
                found.setdefault(name, []).append(place)
        return found

    @cached_property
    def _uses(self) -> list[frozenset[str]]:
        return [frozenset(_names(statement)) for statement in self.statements]

    @cached_property
    def _always(self) -> list[int]:
        """What runs for its effect: it binds nothing, or an import that nobody uses."""
        everywhere = {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)}
        found = []
        for place, statement in enumerate(self.statements):
            bound = set(_bound(statement))
            star = isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names)
            if star or not bound or (isinstance(statement, Import) and not bound & everywhere):
                found.append(place)
        return found

    def used_by(self, function: str) -> set[int]:
        """The statements that a function reaches, itself included."""
        found: set[int] = set()
        waiting = [*self.binding[function], *self._always]
        while waiting:
            place = waiting.pop()
            if place in found:
                continue
            found.add(place)
            names = self._uses[place]
            if names & BY_TEXT:
                return set(range(len(self.statements)))
            waiting.extend(one for name in names for one in self.binding.get(name, ()))
        return found

    def said(self, used: set[int], function: str) -> Iterator[str]:
        """The statements as their syntax; of imports the names that are used, of the step not how it runs."""
        names = set().union(*(self._uses[place] for place in used))
        for place in sorted(used):
            statement = self.statements[place]
            if isinstance(statement, ast.FunctionDef) and statement.name == function:
                kept = [one for one in statement.decorator_list if not _is_step(one)]
                statement = ast.FunctionDef(**{**dict(ast.iter_fields(statement)), "decorator_list": kept})
            elif isinstance(statement, Import) and not names & BY_TEXT:
                some = [one for one in statement.names if _name_of(one) in names] or statement.names
                statement = type(statement)(**{**dict(ast.iter_fields(statement)), "names": some})
            yield ast.dump(statement, annotate_fields=False)


def _is_main(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test).replace('"', "'") == "__name__ == '__main__'"


def _is_future(statement: ast.stmt) -> bool:
    """Also the module's docstring: neither does anything."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _is_step(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)) == "step"


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that running the statement makes or changes, at the module's own level."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    if isinstance(statement, Import):
        yield from map(_name_of, statement.names)
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.id
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            yield from (inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, Import):
            yield from _bound(node)


def _name_of(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _names(statement: ast.stmt) -> Iterator[str]:
    """Names that are looked up, save by what tells how a step runs."""
    decorators = statement.decorator_list if isinstance(statement, ast.FunctionDef) else []
    skipped = [one for one in decorators if _is_step(one)]
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if node in skipped:
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        waiting.extend(ast.iter_child_nodes(node))
