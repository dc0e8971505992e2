"""A tracker that keeps everything in memory, for tests: the port's meaning on one page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trueline.errors import NotFound
from trueline.tracking import journal
from trueline.tracking.artifacts import files
from trueline.tracking.entries import Ended, Entry, Input, Metric, Model, Nested, Param, Tag
from trueline.tracking.recording import LOGGED
from trueline.tracking.store import FILES, TrackedRun, TrackedVersion


@dataclass
class KeptRun:
    status: str
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)  # name by our id
    parent: str | None = None
    position: journal.Position = field(default_factory=dict)


class MemoryTracking:
    """What was told, by id: `runs`, `versions` by (model, number), `aliases` by (model, alias).

    A nested run is kept under the id of its run and its own key: `run-1/<key>`.
    """

    def __init__(self) -> None:
        self.runs: dict[str, KeptRun] = {}
        self.versions: dict[tuple[str, int], TrackedVersion] = {}
        self.aliases: dict[tuple[str, str], int] = {}

    def run(self, run: TrackedRun) -> None:
        kept = self.runs.setdefault(run.run_id, KeptRun(run.status))
        kept.status = run.status
        kept.params |= run.params
        kept.tags |= run.tags
        for name, value in run.metrics.items():
            kept.metrics[name] = [(0, value)]
        if run.folder is None:
            return
        while True:
            entries, kept.position = journal.read(run.folder, kept.position)
            if not entries:
                break
            for entry in entries:
                self._say(run.run_id, entry)
        kept.files |= {name: run.folder / name for name in FILES if (run.folder / name).is_file()}
        for folder in journal.folders(run.folder):
            kept.files |= dict(files(folder / LOGGED / "artifacts"))
        for key, nested in self.runs.items():
            if key.startswith(f"{run.run_id}/") and nested.status == "RUNNING" and run.finished_at is not None:
                nested.status = run.status

    def _say(self, run_id: str, entry: Entry) -> None:
        key = f"{run_id}/{entry.run}" if entry.run else run_id
        if isinstance(entry, Nested):
            above = f"{run_id}/{entry.parent}" if entry.parent else run_id
            self.runs[key] = KeptRun("RUNNING", parent=above)
        kept = self.runs[key]
        if isinstance(entry, Metric):
            kept.metrics.setdefault(entry.name, []).append((entry.step, entry.value))
        elif isinstance(entry, Param):
            kept.params.setdefault(entry.name, entry.value)
        elif isinstance(entry, Tag):
            kept.tags[entry.name] = entry.value
        elif isinstance(entry, Input):
            kept.inputs.append(entry.dataset["name"])
        elif isinstance(entry, Model):
            kept.models[entry.model] = entry.name
        elif isinstance(entry, Ended):
            kept.status = entry.status

    def version(self, version: TrackedVersion) -> None:
        self.versions.setdefault((version.model, version.version), version)

    def alias(self, model: str, alias: str, version: int | None) -> None:
        if version is None:
            self.aliases.pop((model, alias), None)
        elif (model, version) not in self.versions:
            raise NotFound(f"model {model} has no registered version {version}")
        else:
            self.aliases[model, alias] = version

    def close(self) -> None: ...
