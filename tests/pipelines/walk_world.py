"""Runs of pipelines on a real database, with the worker's loop, its processes and its clock in the test's hands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from trueline.clock import ManualClock
from trueline.control import runs, steps
from trueline.control.context import Context
from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.domain.events import Event
from trueline.domain.project import Data, Project
from trueline.domain.runs import RUNS, Purpose, Run, RunEvent, RunState
from trueline.domain.steps import Step
from trueline.pipelines import values
from trueline.pipelines.graph import INPUT, Graph, resolve
from trueline.pipelines.key import key_parts
from trueline.pipelines.outputs import Outputs
from trueline.pipelines.prepared import Prepared
from trueline.pipelines.spec import StepSpec, TrainSpec, result_file
from trueline.pipelines.walk import Walk
from trueline.settings import StateFolder
from trueline.store import moves, rows, tables
from trueline.store.engine import Store, open_store

LEASE = timedelta(seconds=30)
CONTRACT = Contract((Column("x", Kind.float64), Column("y", Kind.float64, role=Role.target)))


@dataclass(repr=False)
class World:
    """One project, `p`, in a folder."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.root = self.folder / "project"
        self.root.mkdir()
        self.state = StateFolder(self.folder / "state").create()
        self.store: Store = open_store(self.folder / "control.db", self.clock)
        self.outputs = Outputs(self.state.outputs)
        self.rows = self.folder / "rows.arrow"
        pl.DataFrame({"x": [1.0, 2.0, 3.0], "y": [2.0, 4.0, 6.0]}).write_ipc(self.rows)
        project = Project("p", Data("rows.csv", "y"), "pipeline.py:training")
        self.context = Context(project, self.root, self.state, self.store, self.clock, "worker-1")

    def write(self, code: str, name: str = "pipeline.py") -> None:
        (self.root / name).write_text(code)

    def start(self, **params: Any) -> Run:
        with self.store.begin() as tx:
            return runs.start(
                tx,
                "p",
                purpose=Purpose.manual,
                entry="pipeline.py:training",
                params=params,
                window_from=tx.now,
                cut_at=tx.now,
                release=False,
                actor="ada",
                reason="asked for",
            )

    def claim(self, run: Run) -> tuple[Run, int]:
        """Take the run up, or over from whoever holds it: the lease of a dead holder has run out."""
        while True:
            self.clock.advance(2 * LEASE)
            with self.store.begin() as tx:
                claimed = moves.claim(
                    tx,
                    tables.runs,
                    RUNS,
                    RunEvent.claim,
                    project="p",
                    waiting=RunState.queued,
                    busy=RunState.running,
                    owner="worker-1",
                    lease=LEASE,
                )
                assert claimed is not None
                found = rows.get(tx, Run, claimed[0])
            if found.id == run.id:
                return found, claimed[1]
            self.end(found, claimed[1], well=False)  # left over from an example that failed

    def end(self, run: Run, fence: int, *, well: bool = True) -> None:
        event, error = (RunEvent.succeed, None) if well else (RunEvent.fail, "a step failed")
        with self.store.begin() as tx:
            moves.move(tx, tables.runs, RUNS, run.id, event, actor="worker-1", reason="ended", fence=fence, error=error)

    def prepared(self, run: Run, rows_digest: str = "rows-1", **around: Any) -> Prepared:
        folder = self.state.run(run.id)
        folder.mkdir(parents=True, exist_ok=True)
        spec = TrainSpec(
            project=self.root,
            entry="pipeline.py:training",
            params=run.params,
            rows=self.rows,
            held_out=None,
            contract=CONTRACT,
            task="regression",
            folder=folder,
            created=datetime(2026, 1, 1, tzinfo=UTC),
        )
        environment = {"python": "3.12", "platform": "linux", "threads": 1, "packages": {"numpy": "2.0"}} | around
        parts = key_parts(
            code={}, entry=run.entry, params=run.params, inputs={"rows": rows_digest}, environment=environment, seed=0
        )
        return Prepared(spec, parts, 1, run.window_from, run.cut_at)

    def walk(self, run: Run, fence: int, graph: Graph, processes: Any, **more: Any) -> Walk:
        rows_digest = more.pop("rows_digest", "rows-1")
        return Walk(
            self.context,
            processes,
            self.outputs,
            self.prepared(run, rows_digest),
            run,
            fence,
            graph,
            **({"pause": lambda seconds: self.clock.advance(timedelta(seconds=seconds))} | more),
        )

    def value(self, tree: values.Tree) -> Any:
        return values.load(tree, self.outputs, self.root)

    def steps(self, run: Run) -> dict[str, Step]:
        with self.store.read() as tx:
            return {step.name: step for step in steps.of_run(tx, run.id)}

    def events(self, run: Run, *kinds: str) -> list[tuple[str, str, str]]:
        """Kind, step, reason."""
        with self.store.read() as tx:
            found = rows.find(tx, Event, tables.events.c.ref.startswith(f"{run.id}:"))
        told = [(event.kind, event.ref.partition(":")[2], event.reason) for event in found]
        return [one for one in told if not kinds or one[0] in kinds]


class InstantProcesses:
    """In place of fresh processes: a step is computed here when it is waited for, by a function of its inputs."""

    def __init__(self, compute: Callable[[StepSpec, dict[str, Any]], Any]) -> None:
        self.compute = compute
        self.started: dict[int, StepSpec] = {}
        self.killed: list[int] = []
        self.jobs = 0

    def start(self, module: str, path: Path) -> int:
        assert module == "trueline.pipelines.step_child"
        self.jobs += 1
        self.started[self.jobs] = StepSpec(**json.loads(path.read_text()))
        return self.jobs

    def wait(self, seconds: float) -> dict[int, int]:
        assert seconds >= 0
        if not self.started:
            return {}
        job = min(self.started)
        spec = self.started.pop(job)
        self.run(spec)
        return {job: 0}

    def run(self, spec: StepSpec) -> None:
        outputs = Outputs(Path(spec.outputs))

        def of_step(name: str, path: list[Any]) -> Any:
            return "rows" if name == INPUT else values.load(spec.inputs[name], outputs, Path(spec.project), path)

        given = {name: resolve(argument, of_step) for name, argument in spec.arguments.items()}
        tree = values.keep(self.compute(spec, given), outputs, Path(spec.project), spec.name)
        result_file(Path(spec.folder), spec.key).write_text(
            json.dumps({"key": spec.key, "output": tree, "seconds": 0.0})
        )

    def kill(self, job: int) -> None:
        self.killed.append(job)
        self.started.pop(job, None)

    def close(self) -> None:
        self.started.clear()
