"""What a run's processes are told and what they answer, as values and as JSON files in folders of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from trueline.domain import contracts
from trueline.domain.contracts import Contract
from trueline.errors import TrainingFailed
from trueline.packaging.manifest import Parity, parity_from
from trueline.pipelines import graph as graphs
from trueline.pipelines.graph import Graph

SPEC = "spec.json"
RESULT = "result.json"
LOG = "log.txt"
MODEL = "model"
ANSWER = "graph.json"


@dataclass(frozen=True)
class TrainSpec:
    """One training. `rows` and `held_out` are Arrow IPC files; without held-out rows there are no live metrics."""

    project: Path  # the folder of trueline.yaml; user code is imported from here
    entry: str  # module.py:function
    params: Mapping[str, Any]
    rows: Path
    held_out: Path | None
    contract: Contract
    task: str  # regression | classification
    folder: Path  # runs/<id>
    created: datetime
    seed: int = 0
    threads: int = 1
    timeout: float = 3600.0
    meta: Mapping[str, Any] = field(default_factory=dict)  # JSON values kept with the packaged model
    result: Mapping[str, Any] | None = None  # of a pipeline: what its steps made (tree, path), in place of a fit
    outputs: Path | None = None  # where that is kept
    pickle: bool = True  # whether an object that only Python can keep may become a model


@dataclass(frozen=True)
class TrainResult:
    """A finished training: the packaged model, its metrics, and what its training rows looked like."""

    folder: Path
    digest: str
    kind: str
    parity: Parity
    metrics: dict[str, float]
    summary: dict[str, Any]
    rows: int
    wall_seconds: float
    cpu_seconds: float


_PATHS = ("project", "rows", "held_out", "folder", "outputs")


def write_spec(spec: TrainSpec) -> Path:
    plain: dict[str, Any] = {one.name: getattr(spec, one.name) for one in fields(spec)}
    for name in _PATHS:
        plain[name] = None if plain[name] is None else str(Path(plain[name]).absolute())
    plain["contract"] = contracts.to_dict(spec.contract)
    plain["created"] = spec.created.isoformat()
    plain["params"], plain["meta"] = dict(spec.params), dict(spec.meta)
    plain["result"] = None if spec.result is None else dict(spec.result)
    path = spec.folder / SPEC
    write_atomically(path, plain)
    return path


def read_spec(path: Path) -> TrainSpec:
    plain = json.loads(path.read_text())
    for name in _PATHS:
        plain[name] = None if plain[name] is None else Path(plain[name])
    plain["contract"] = contracts.from_dict(plain["contract"])
    plain["created"] = datetime.fromisoformat(plain["created"])
    return TrainSpec(**plain)


def write_result(folder: Path, result: TrainResult) -> None:
    plain = asdict(result)
    plain["folder"] = str(result.folder)
    write_atomically(folder / RESULT, {"result": plain})


def write_failure(folder: Path, kind: str, sentence: str) -> None:
    write_atomically(folder / RESULT, {"failed": kind, "sentence": sentence})


def read_result(folder: Path) -> TrainResult | tuple[str, str] | None:
    """What a training left: its result, (error class, sentence), or nothing when it did not get so far."""
    try:
        plain = json.loads((folder / RESULT).read_text())
    except FileNotFoundError:
        return None
    if "failed" in plain:
        return plain["failed"], plain["sentence"]
    found = plain["result"]
    found["parity"] = parity_from(found["parity"])
    found["folder"] = Path(found["folder"])
    return TrainResult(**found)


def step_folder(run: Path, name: str) -> Path:
    """Where a step of a run has its files."""
    return run / "steps" / name


def write_atomically(path: Path, plain: Mapping[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(plain, indent=1, default=str))
    draft.replace(path)


@dataclass(frozen=True)
class TraceSpec:
    project: Path
    entry: str  # module.py:function
    params: dict[str, Any]
    folder: Path  # of the run
    threads: int = 1

    def write(self) -> Path:
        path = self.folder / "trace.json"
        plain = {"project": str(self.project), "entry": self.entry, "params": self.params, "threads": self.threads}
        write_atomically(path, plain)
        return path


def read_answer(folder: Path) -> Graph | None:
    """What `main` left; None where it did not get so far."""
    try:
        plain = json.loads((folder / ANSWER).read_text())
    except FileNotFoundError:
        return None
    if "failed" in plain:
        raise TrainingFailed(plain["failed"])
    return graphs.from_plain(plain["graph"])


@dataclass(frozen=True)
class StepSpec:
    """What a step's process is told: plain values, kept in the step's folder."""

    project: str
    entry: str  # the pipeline's; its file is imported first, as it was when the graph was made
    name: str
    module: str
    function: str
    arguments: Mapping[str, Any]
    inputs: Mapping[str, Any]  # what the steps it takes from have made
    rows: str
    contract: Mapping[str, Any]
    outputs: str
    run: str  # the run's folder
    folder: str  # the step's own
    key: str
    attempt: str  # "attempt 1 of 3"
    seed: int
    threads: int

    def write(self) -> Path:
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        result_file(folder, self.key).unlink(missing_ok=True)
        write_atomically(folder / SPEC, vars(self))
        return folder / SPEC


def result_file(folder: Path, key: str) -> Path:
    """Named by the key: what an attempt leaves that nobody waits for any more hides no other's result."""
    return folder / f"result-{key[:16]}.json"
