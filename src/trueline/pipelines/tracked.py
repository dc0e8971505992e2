"""Bringing runs, versions and aliases to the tracking store, from the outbox, after everything else.

Versions and aliases of a project are told in the order in which they came to be, so a store that numbers versions itself
gives ours the numbers they have here. What cannot be told because the store is away is tried again, and nothing else is
before it; what the store refuses for itself waits alone, and gives way after a while.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from trueline.control import artefacts, endpoints, runs
from trueline.control.context import Context
from trueline.control.leadership import Leadership
from trueline.domain.runs import Run, RunState
from trueline.domain.versions import Version
from trueline.errors import NotAllowed, NotAuthenticated, NotFound, Unavailable
from trueline.store import outbox, rows
from trueline.store.engine import Tx
from trueline.store.outbox import Intent
from trueline.tracking.store import TrackedRun, TrackedVersion, Tracking

log = logging.getLogger(__name__)

KIND = "tracking"
STATUS = {RunState.succeeded: "FINISHED", RunState.failed: "FAILED", RunState.cancelled: "KILLED"}
AWAY = (Unavailable, NotAuthenticated, NotAllowed)
GIVE_WAY = 20
"""So many failed tries of a version or an alias hold back those that came after it; some eight minutes."""

Told = TrackedRun | TrackedVersion | tuple[str, str, int | None]


def due(backlog: Sequence[tuple[Intent, bool]]) -> Intent | None:
    """The intent to carry out next: the oldest that is due and stands behind no older version or alias."""
    held = False
    for intent, is_due in backlog:
        ordered = "run" not in intent.payload
        if is_due and not (ordered and held):
            return intent
        held |= ordered and intent.attempts < GIVE_WAY
    return None


def _version_tags(version: Version) -> dict[str, str]:
    """How the version is served, for who looks at it in MLflow."""
    tags = {"trueline.executor": version.executor, "trueline.task": version.task}
    if "worst" in version.parity:
        tags["trueline.parity.worst"] = f"{version.parity['worst']:.3g}"
    speed = version.parity.get("speed") or {}
    return tags | {f"trueline.speed.{name}": f"{value:g}" for name, value in speed.items()}


class Feeder:
    """Delivers tracking intents one at a time, one worker at a time; the store is opened when the first one comes."""

    def __init__(
        self, context: Context, open_tracking: Callable[[], Tracking], *, turn: Leadership | None = None
    ) -> None:
        self._context = context
        self._open = open_tracking
        self._turn = turn or Leadership(context.store, context.project.name, role=KIND)
        self._closing = threading.Event()
        self._beating: threading.Thread | None = None
        self._tracking: Tracking | None = None
        self._paused: tuple[datetime, datetime] | None = None
        self._said = ""

    def work_one(self) -> bool:
        """Try one waiting intent, if any is due; whether to ask for the next at once."""
        if self._pausing():
            return False
        mine, found = self._turn.held, self._next()
        if found is None or not self._my_turn():
            return False
        if not mine:  # who had the turn until now may have told it since it was read
            found = self._next()
            if found is None:
                return False
        intent, told = found
        try:
            if told is not None:
                self._deliver(told)
        except Exception as problem:  # noqa: BLE001 whatever a store raises must not hold up what stands behind it
            self._failed(intent, problem)
            return not isinstance(problem, AWAY)
        with self._context.store.begin() as tx:
            self._turn.check(tx)
            outbox.done(tx, intent)
        self._said = ""
        return True

    def close(self) -> None:
        self._closing.set()
        if self._beating is not None:
            self._beating.join()
        self._turn.release()
        if self._tracking is not None:
            self._tracking.close()

    def _next(self) -> tuple[Intent, Told | None] | None:
        """What is to be told next, and what it says now."""
        with self._context.store.read() as tx:
            intent = due(outbox.backlog(tx, self._context.project.name, KIND))
            return None if intent is None else (intent, self._value(tx, intent))

    def _my_turn(self) -> bool:
        """Whether this worker is the one that tells: two at once could say a thing twice."""
        if not self._turn.hold():
            return False
        if self._beating is None:  # a delivery may take longer than others wait for a sign of life
            self._beating = threading.Thread(
                target=self._turn.keep, args=(self._closing,), name="turn at tracking", daemon=True
            )
            self._beating.start()
        return True

    def _pausing(self) -> bool:
        """Whether the store was away a moment ago; a clock that was put back ends the pause."""
        if self._paused is None:
            return False
        since, until = self._paused
        return since <= self._context.clock.wall() < until

    def _failed(self, intent: Intent, problem: Exception) -> None:
        sentence = str(problem) or type(problem).__name__
        if sentence != self._said:
            log.warning("tracking %s is tried again later: %s", intent.key, sentence)
            self._said = sentence
        with self._context.store.begin() as tx:
            self._turn.check(tx)
            outbox.failed(tx, intent, sentence)
            if isinstance(problem, AWAY):
                self._paused = (tx.wall, tx.wall + outbox.wait_after(intent.attempts) + timedelta(milliseconds=1))

    def _value(self, tx: Tx, intent: Intent) -> Told | None:
        """What an intent says now; nothing when a later one says it anew."""
        said: dict[str, Any] = intent.payload
        if "run" in said:
            return self._run(rows.get(tx, Run, str(said["run"])))
        if "alias" in said:
            if outbox.superseded(tx, intent, "alias"):
                return None
            return self._name, str(said["alias"]), said["to"]
        try:
            return self._version(runs.version(tx, str(said["project"]), int(said["version"])))
        except NotFound:
            return None

    @property
    def _name(self) -> str:
        """Experiment and registered model: each target has its own."""
        project = self._context.project
        return project.name if project.target is None else f"{project.name}-{project.target}"

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
            project=self._name,
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
            model=self._name,
            version=version.number,
            run_id=version.run,
            folder=endpoints.model_folder(self._context.folder, version),
            digest=version.digest,
            tags=_version_tags(version),
        )

    def _deliver(self, told: Told) -> None:
        if self._tracking is None:
            self._tracking = self._open()
        if isinstance(told, TrackedRun):
            if told.finished_at is not None:  # perhaps on another machine
                artefacts.bring_said(self._context, told.run_id)
            self._tracking.run(told)
        elif isinstance(told, TrackedVersion):
            artefacts.bring(self._context, self._context.folder.run(told.run_id), told.digest)
            self._tracking.version(told)
        else:
            self._tracking.alias(*told)
