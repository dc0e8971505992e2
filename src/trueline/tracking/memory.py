"""A tracker that keeps everything in memory, for tests: the port's meaning in forty lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trueline.errors import NotFound
from trueline.tracking import journal
from trueline.tracking.journal import Metric
from trueline.tracking.store import FILES, TrackedRun, TrackedVersion


@dataclass
class KeptRun:
    status: str
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    offset: int = 0


class MemoryTracking:
    """What was told, by id: `runs`, `versions` by (model, number), `aliases` by (model, alias)."""

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
            entries, kept.offset = journal.read(run.folder, kept.offset)
            if not entries:
                break
            for entry in entries:
                if isinstance(entry, Metric):
                    kept.metrics.setdefault(entry.name, []).append((entry.step, entry.value))
                else:
                    kept.params.setdefault(entry.name, entry.value)
        kept.files |= {name: run.folder / name for name in FILES if (run.folder / name).is_file()}

    def version(self, version: TrackedVersion) -> None:
        self.versions[version.model, version.version] = version

    def alias(self, model: str, alias: str, version: int | None) -> None:
        if version is None:
            self.aliases.pop((model, alias), None)
        elif (model, version) not in self.versions:
            raise NotFound(f"model {model} has no registered version {version}")
        else:
            self.aliases[model, alias] = version

    def close(self) -> None: ...
