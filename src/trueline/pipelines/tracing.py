"""Reading a pipeline: its function runs once, in a fresh process, and its steps' calls become a graph."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from trueline.errors import InvalidInput, TrainingFailed, TruelineError
from trueline.pipelines import graph as graphs
from trueline.pipelines import user_code
from trueline.pipelines.authoring import Pipeline, Step
from trueline.pipelines.graph import Call, Graph
from trueline.pipelines.process import recorded, send_output_to
from trueline.pipelines.spec import ANSWER, LOG, write_atomically


def main(path: Path) -> None:
    """Leave the graph, or a sentence why there is none, beside the file that says what to read."""
    plain = json.loads(path.read_text())
    send_output_to(path.parent / LOG)
    try:
        with recorded(path.parent):
            found = trace(Path(plain["project"]), plain["entry"], plain["params"])
        answer: dict[str, Any] = {"graph": graphs.to_plain(found)}
    except TruelineError as problem:
        answer = {"failed": str(problem)}
    write_atomically(path.parent / ANSWER, answer)


def trace(project: Path, entry: str, params: dict[str, Any]) -> Graph:
    """Import the entry's file and put its pipeline together."""
    found = user_code.find(project, entry)
    if not isinstance(found, Pipeline):
        raise TrainingFailed(f"{entry} is no pipeline any more; write @pipeline above it, or correct `train`")
    user_code.check_parameters(found.function, params, entry)
    try:
        graph = found.trace(params)
        return replace(graph, calls=tuple(_located(call, project) for call in graph.calls))
    except InvalidInput as problem:
        line = user_code.where(problem, project, user_code.split_entry(entry)[0])
        raise TrainingFailed(f"{line}: {problem}") from problem
    except Exception as problem:
        user_code.tell(problem)
        line = user_code.where(problem, project, user_code.split_entry(entry)[0])
        raise TrainingFailed(
            f"{line}: putting the pipeline {entry} together raised {user_code.what(problem)}"
        ) from problem


def step_of(module: str, function: str) -> Step[..., Any]:
    """The step of that name, its module imported where that has not happened yet."""
    found = getattr(importlib.import_module(module), function, None)
    if not isinstance(found, Step):
        raise InvalidInput(f"step {function} is not what '{function}' is at the top of {module}; keep its name there")
    return found


def _located(call: Call, project: Path) -> Call:
    step_of(call.module, call.function)
    file = getattr(sys.modules[call.module], "__file__", None)
    return replace(call, file=None if file is None else user_code.relative(file, project))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
