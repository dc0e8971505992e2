"""A run whose entry is a pipeline: its graph, its steps, and what is packaged at the end.

The graph of the same code, parameters and environment is the same, so it is read from the code once and kept.
The run's key is of what its steps made, not of the code that made it: mended comments in a step train nothing anew, and
neither does a step that gives what it gave before.
"""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

from trueline.control.context import Context
from trueline.domain.runs import Run
from trueline.errors import TrainingFailed
from trueline.pipelines import graph as graphs
from trueline.pipelines import values
from trueline.pipelines.closure import imported, parse
from trueline.pipelines.execute import death, run_alone
from trueline.pipelines.fresh import Processes
from trueline.pipelines.graph import Graph
from trueline.pipelines.key import key_parts, run_key
from trueline.pipelines.outputs import Outputs
from trueline.pipelines.prepared import Prepared
from trueline.pipelines.spec import ANSWER, LOG, TraceSpec, TrainSpec, read_answer, write_atomically
from trueline.pipelines.user_code import split_entry
from trueline.pipelines.walk import Walk

TRACE_SECONDS = 120.0
DEEPEST = 5
"""Modules through which a pipeline's name may be passed on by imports."""


def is_pipeline(project: Path, entry: str) -> bool:
    """Whether the entry is a function under `@pipeline`, told from its file alone: user code runs in no worker."""
    file, name = split_entry(entry)
    path = project / file
    if not path.is_file():
        return False  # told where the code is looked at for the run's key
    return _decorated(path.resolve(), name, (path.parent.resolve(), project.resolve()), DEEPEST)


def make(context: Context, processes: Processes, prepared: Prepared, run: Run, fence: int) -> tuple[TrainSpec, str]:
    """Have every step made; what to package, and the run's key.

    Raises:
        TrainingFailed: the pipeline cannot be read, or a step failed for good.
    """
    outputs = Outputs(context.folder.outputs)
    graph = _graph(processes, prepared, outputs)
    tree = Walk(context, processes, outputs, prepared, run, fence, graph).to_end()
    path = graph.result["path"]
    parts = prepared.key_parts
    key = key_parts(
        code={},
        entry=run.entry,
        params={},
        inputs={**parts["inputs"], "result": values.digest(tree, path)},
        environment=parts["environment"],
        seed=prepared.spec.seed,
    )
    return replace(prepared.spec, result={"tree": tree, "path": path}, outputs=outputs.root), run_key(key)


def _graph(processes: Processes, prepared: Prepared, outputs: Outputs) -> Graph:
    """The kept graph, or a new one."""
    spec, parts = prepared.spec, prepared.key_parts
    kept = outputs.root / "graphs" / f"{run_key({**parts, 'inputs': {}})}.json"
    if kept.exists():
        return graphs.from_plain(json.loads(kept.read_text()))
    asked = TraceSpec(spec.project.absolute(), spec.entry, dict(spec.params), spec.folder.absolute())
    (spec.folder / ANSWER).unlink(missing_ok=True)
    code = run_alone(processes, "trueline.pipelines.tracing", asked.write(), TRACE_SECONDS)
    found = read_answer(spec.folder)
    if found is None:
        how = death(code) if code is not None else f"took longer than {TRACE_SECONDS:g} s and was stopped"
        raise TrainingFailed(
            f"putting the pipeline {spec.entry} together {how}; what it printed is in {spec.folder / LOG}"
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(kept, graphs.to_plain(found))
    return found


def _decorated(path: Path, name: str, roots: tuple[Path, ...], depth: int) -> bool:
    for statement in parse(path, path.name).body:
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            return any(_last(one) == "pipeline" for one in statement.decorator_list)
        if isinstance(statement, ast.Assign) and any(_last(one) == name for one in statement.targets):
            return isinstance(statement.value, ast.Call) and _last(statement.value) == "pipeline"
        if isinstance(statement, ast.ImportFrom) and depth:
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return any(
                        _decorated(one, alias.name, roots, depth - 1) for one in imported(statement, path, roots)
                    )
    return False


def _last(node: ast.expr) -> str:
    """The last word of a name, an attribute or a call of one."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
