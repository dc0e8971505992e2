"""A pipeline as a value: which functions are called with what, before anything runs.

An argument is a tree of JSON values: `{"value": 3}` is itself, `{"step": "prepare", "path": [0]}` stands for (a part of)
what a step will give, and `list`, `tuple` and `dict` hold such trees. Everything else that a step may be given is refused
when the graph is made. The calls are in the order in which they were made, so each follows what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

INPUT = "$frame"
"""In place of a step's name: the training rows."""

Argument = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One step of a pipeline."""

    name: str  # the function's; a second call of it is `name-2`
    module: str  # as it was imported
    function: str
    file: str | None  # relative to the project; None for a function of an installed package
    arguments: Mapping[str, Argument]  # by the names of the function's parameters
    retries: int
    timeout: float | None  # seconds
    cache: bool

    @property
    def entry(self) -> str:
        return f"{self.file or self.module}:{self.function}"

    @property
    def needs(self) -> tuple[str, ...]:
        """The steps whose results it takes, each once."""
        found = (name for argument in self.arguments.values() for _, name, _ in references(argument))
        return tuple(dict.fromkeys(name for name in found if name != INPUT))


@dataclass(frozen=True)
class Graph:
    calls: tuple[Call, ...]
    result: Argument  # what the pipeline returns: a reference


def references(argument: Argument, label: str = "") -> Iterator[tuple[str, str, list[Any]]]:
    """Every place in an argument that stands for a step's result: where it is, the step, the part of it."""
    if "step" in argument:
        yield label, argument["step"], argument["path"]
    for place, inner in _members(argument):
        yield from references(inner, f"{label}[{place!r}]")


def only_references(argument: Argument) -> bool:
    """Whether nothing of it is a step's parameter."""
    return "step" in argument


def resolve(argument: Argument, of_step: Callable[[str, list[Any]], Any]) -> Any:
    """The value that an argument stands for, `of_step` giving the results of steps."""
    if "step" in argument:
        return of_step(argument["step"], argument["path"])
    if "value" in argument:
        return argument["value"]
    if "dict" in argument:
        return {name: resolve(inner, of_step) for name, inner in argument["dict"].items()}
    items = [resolve(inner, of_step) for _, inner in _members(argument)]
    return tuple(items) if "tuple" in argument else items


def _members(argument: Argument) -> Iterator[tuple[Any, Argument]]:
    if "dict" in argument:
        yield from argument["dict"].items()
    yield from enumerate(argument.get("list", argument.get("tuple", ())))


def to_plain(graph: Graph) -> dict[str, Any]:
    return {"calls": [asdict(call) for call in graph.calls], "result": dict(graph.result)}


def from_plain(plain: Mapping[str, Any]) -> Graph:
    return Graph(tuple(Call(**call) for call in plain["calls"]), plain["result"])
