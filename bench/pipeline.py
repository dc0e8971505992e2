"""noop-pipeline: ten steps that do nothing, all cached, in a fresh process: from an open database to the run's result.

The first run executes them. Then a cold process opens the project, takes up a second run of the same rows, and walks its
steps: each is decided on, found equal to an earlier one, and committed with its event. Reading the data before and
packaging a model after the steps are a training's, not a pipeline's; the whole `trueline run` is measured beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cpu
from figures import Figure, number, tell

STEPS = 10
PROJECT = """\
version: 1
project: noop
data: {source: rows.csv, target: y}
train: pipeline.py:training
"""
FIRST = """
from trueline import pipeline, step

"""
STEP = """
@step
def step_{number}(value):
    return value

"""
LAST = """
@step
def last(frame, value):
    from sklearn.linear_model import LinearRegression
    return LinearRegression().fit(frame.select("x"), frame["y"])

@pipeline
def training(frame, seed=0):
    value = seed
"""
WALK = """
import json, sys, time
from pathlib import Path
from trueline.control import runs
from trueline.domain.runs import RUNS, Run, RunEvent, RunState
from trueline.pipelines import piped, prepared
from trueline.pipelines.fresh import Processes
from trueline.store import moves, rows, tables
from trueline.wiring import open_context

context = open_context(Path(sys.argv[1]), actor="bench")
with context.store.begin() as tx:
    first = rows.get(tx, Run, "run-1")
    same = {name: getattr(first, name) for name in ("purpose", "entry", "params", "window_from", "cut_at")}
    run = runs.start(tx, first.project, **same, release=False, actor="bench", reason="bench")
    moves.move(tx, tables.runs, RUNS, run.id, RunEvent.claim, actor="bench", reason="bench")
rows_of_first = prepared.again(context, first)
marked = time.process_time()
with Processes() as processes:
    piped.make(context, processes, rows_of_first, run, 0)
    assert processes.nursery is None, "a step was executed"
print(json.dumps(time.process_time() - marked))
"""


def measure(*, quick: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as name:
        project = _write(Path(name)) / "trueline.yaml"
        whole = [sys.executable, "-m", "trueline", "run", "-f", str(project), "--no-release", "--quiet"]
        subprocess.run(whole, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rounds = 1 if quick else 5
        walk = [sys.executable, "-c", WALK, str(project)]
        walked = min(_told(walk) for _ in range(rounds))
        process = min(cpu.of_command(walk) for _ in range(rounds))
        command = min(cpu.of_command(whole) for _ in range(1 if quick else 2))
        imports = min(cpu.of_command([sys.executable, "-c", "import sqlalchemy"]) for _ in range(1 if quick else 3))
    against = f"a process that imports SQLAlchemy, {number(imports)} s"
    claim = f"{STEPS} no-op steps and the model's, all cached, each decided on and committed ({walked * 1e3:.0f} ms of it the walk)"
    yield Figure("noop-pipeline", claim, process, "s CPU", against, process / imports, "≤ 0.6 s", process <= 0.6)
    yield Figure(
        None, "the same by `trueline run`, which reads the data too", command, "s CPU", against, command / imports
    )


def _told(command: list[str]) -> float:
    return float(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))


def _write(folder: Path) -> Path:
    body = "".join(f"    value = step_{number}(value)\n" for number in range(STEPS))
    steps = "".join(STEP.format(number=number) for number in range(STEPS))
    (folder / "pipeline.py").write_text(f"{FIRST}{steps}{LAST}{body}    return last(frame, value)\n")
    (folder / "trueline.yaml").write_text(PROJECT)
    rows = "".join(f"{row},{row * 2 + row % 7}\n" for row in range(200))
    (folder / "rows.csv").write_text(f"x,y\n{rows}")
    return folder


if __name__ == "__main__":
    tell(measure, __doc__)
