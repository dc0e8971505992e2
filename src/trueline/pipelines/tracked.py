"""Bringing runs, versions and aliases to the tracking store, from the outbox, after everything else."""

from __future__ import annotations

import logging
from typing import Any

from trueline.control import endpoints, runs
from trueline.control.context import Context
from trueline.domain.runs import Run, RunState
from trueline.domain.versions import Version
from trueline.errors import NotFound
from trueline.store import outbox, rows
from trueline.store.engine import Tx
from trueline.store.outbox import Intent
from trueline.tracking.mlflow_store import MlflowTracking
from trueline.tracking.store import TrackedRun, TrackedVersion, Tracking

log = logging.getLogger(__name__)

STATUS = {RunState.succeeded: "FINISHED", RunState.failed: "FAILED", RunState.cancelled: "KILLED"}


class Feeder:
    """Delivers tracking intents one at a time; the store is opened when the first one comes."""

    def __init__(self, context: Context, tracking: Tracking | None = None) -> None:
        self._context = context
        self._tracking = tracking

    def work_one(self, context: Context) -> bool:
        """Deliver the oldest waiting intent, if there is one; a failed delivery waits and is tried again."""
        with context.store.read() as tx:
            waiting = outbox.pending(tx, ("tracking",), limit=1)
            told = self._value(tx, waiting[0]) if waiting else None
        if not waiting:
            return False
        try:
            if told is not None:
                self._deliver(told)
        except Exception as problem:  # noqa: BLE001 whatever MLflow raises must not hold up what stands behind it
            log.warning("tracking %s is tried again later: %s", waiting[0].key, problem)
            with context.store.begin() as tx:
                outbox.failed(tx, waiting[0], str(problem))
            return False
        with context.store.begin() as tx:
            outbox.done(tx, waiting[0])
        return True

    def _value(self, tx: Tx, intent: Intent) -> TrackedRun | TrackedVersion | tuple[str, str, int | None] | None:
        said: dict[str, Any] = intent.payload
        if "run" in said:
            return self._run(rows.get(tx, Run, str(said["run"])))
        if "alias" in said:
            return str(said["project"]), str(said["alias"]), said["to"]
        try:
            return self._version(runs.version(tx, str(said["project"]), int(said["version"])))
        except NotFound:
            return None

    def _run(self, run: Run) -> TrackedRun:
        tags = {"trueline.reason": run.reason, "trueline.purpose": str(run.purpose), "mlflow.user": run.actor}
        extra = {
            "trueline.key": run.key,
            "trueline.tree": run.tree,
            "trueline.dataset": run.dataset,
            "trueline.cached_from": run.cached_from,
            "trueline.error": run.error,
        }
        tags |= {name: str(value) for name, value in extra.items() if value is not None}
        params = {"entry": run.entry, "window_from": run.window_from.isoformat(), "cut_at": run.cut_at.isoformat()}
        return TrackedRun(
            run_id=run.id,
            project=run.project,
            status=STATUS.get(run.state, "RUNNING"),
            started_at=run.created_at,
            finished_at=run.finished_at,
            params=params,
            metrics=run.metrics or {},
            tags=tags,
            folder=self._context.folder.run(run.id),
        )

    def _version(self, version: Version) -> TrackedVersion:
        return TrackedVersion(
            model=version.project,
            version=version.number,
            run_id=version.run,
            folder=endpoints.model_folder(self._context.folder, version),
            digest=version.digest,
            tags={"trueline.executor": version.executor, "trueline.task": version.task},
        )

    def _deliver(self, told: TrackedRun | TrackedVersion | tuple[str, str, int | None]) -> None:
        if self._tracking is None:
            self._tracking = MlflowTracking(
                self._context.folder.tracking_database, self._context.folder.tracking_artifacts
            )
        if isinstance(told, TrackedRun):
            self._tracking.run(told)
        elif isinstance(told, TrackedVersion):
            self._tracking.version(told)
        else:
            self._tracking.alias(*told)

    def close(self) -> None:
        if self._tracking is not None:
            self._tracking.close()
