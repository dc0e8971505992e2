"""The port to an experiment tracker: runs, versions and aliases, each told as a whole, any number of times.

Callers deliver from an outbox, so every operation may be repeated after a death at any point and must then change
nothing; what was already said is never doubled. An operation raises `Unavailable`, `NotAuthenticated` or `NotAllowed`
when the tracker as a whole cannot be told anything now, and any other error when it is this one thing that it refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

RUN_TAG = "trueline.run_id"
MODEL_TAG = "trueline.model_id"
VERSION_TAG = "trueline.version"
DIGEST_TAG = "trueline.digest"
DEPLOYMENT_TAG = "trueline.deployment"  # whose run-1 it is, where several deployments share a tracker
OFFSET_TAG = "trueline.journal_offset"
FILES = ("log.txt", "code.zip")  # of a run's folder, kept with the run


@dataclass(frozen=True)
class TrackedRun:
    """A training that has ended (or, with status RUNNING, goes on). Its folder may have a journal, a log, code."""

    run_id: str
    project: str
    status: str  # RUNNING | FINISHED | FAILED | KILLED
    started_at: datetime
    finished_at: datetime | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True)
class TrackedVersion:
    """A registered model version; `folder` is the packaged model."""

    model: str
    version: int
    run_id: str
    folder: Path
    digest: str
    tags: Mapping[str, str] = field(default_factory=dict)


class Tracking(Protocol):
    def run(self, run: TrackedRun) -> None:
        """Make the tracker know this run: its parameters, metrics, tags, files, and its journal to the end."""

    def version(self, version: TrackedVersion) -> None:
        """Register a version of a model (making the model if need be)."""

    def alias(self, model: str, alias: str, version: int | None) -> None:
        """Point an alias at a version, or at none; raises NotFound for a version that was not registered."""

    def close(self) -> None: ...
