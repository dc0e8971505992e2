"""One attempt of one step, in a process that does nothing else.

The result file is written last and by rename, after the outputs: a worker that finds it with the step's key may count on
it, also when it is another worker than the one that started this.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

from trueline.domain import contracts
from trueline.errors import TrainingFailed, TruelineError
from trueline.pipelines import user_code, values
from trueline.pipelines.graph import INPUT, resolve
from trueline.pipelines.outputs import Damaged, Outputs
from trueline.pipelines.process import recorded, reproducible, send_output_to
from trueline.pipelines.spec import LOG, StepSpec, result_file, write_atomically
from trueline.pipelines.tracing import step_of


def main(path: Path) -> None:
    """Run the step that the spec file tells of; leaves what came of it beside that file."""
    spec = StepSpec(**json.loads(path.read_text()))
    folder = Path(spec.folder)
    send_output_to(folder / LOG)
    if (folder / LOG).stat().st_size:
        print(f"── {spec.attempt} ──")  # noqa: T201  the log
    started = time.perf_counter()
    found: dict[str, Any] = {"key": spec.key}
    try:
        with reproducible(spec.seed, spec.threads):
            found["output"] = run(spec)
    except Damaged as problem:
        found["damaged"] = problem.digest
    except TruelineError as problem:
        found["failed"] = str(problem)
    except Exception as problem:  # noqa: BLE001  the edge of the process: told, with the traceback in the log
        traceback.print_exc()
        found["failed"] = f"{type(problem).__name__}: {problem}; the traceback is in {folder / LOG}"
    found["seconds"] = time.perf_counter() - started
    write_atomically(result_file(folder, spec.key), found)


def read(spec: StepSpec) -> Any:
    """The training rows, for a step that takes them."""
    from trueline.pipelines.rows import read_rows  # noqa: PLC0415  it brings Polars

    return read_rows(Path(spec.rows), contracts.from_dict(dict(spec.contract)))


def run(spec: StepSpec) -> values.Tree:
    """Call the step's function with its inputs, and keep what it returns."""
    project, outputs = Path(spec.project), Outputs(Path(spec.outputs))
    with recorded(Path(spec.folder), Path(spec.run).name):
        user_code.find(project, spec.entry)
        function = step_of(spec.module, spec.function).function
        given = signature(function).bind_partial()
        rows = cache(lambda: read(spec))

        def of_step(name: str, path: list[Any]) -> Any:
            if name != INPUT:
                return values.load(spec.inputs[name], outputs, project, path)
            value = rows()
            for key in path:
                value = value[key]
            return value

        for name, argument in spec.arguments.items():
            given.arguments[name] = resolve(argument, of_step)
        try:
            made = function(*given.args, **given.kwargs)
        except BaseException as problem:
            user_code.tell(problem)
            line = user_code.where(problem, project, user_code.split_entry(spec.entry)[0])
            raise TrainingFailed(f"{line} raised {user_code.what(problem)}") from problem
    return values.keep(made, outputs, project, f"what {spec.function} returns")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
