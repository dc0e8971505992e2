"""Runs: starting one, and recording how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import update

from trueline.domain.figures import figure
from trueline.domain.runs import RUNS, Purpose, Run, RunEvent, RunState
from trueline.domain.versions import VERSIONS, Version
from trueline.errors import Conflict
from trueline.store import moves, outbox, rows, tables
from trueline.store.engine import Tx


def start(
    tx: Tx,
    project: str,
    *,
    purpose: Purpose,
    entry: str,
    params: dict[str, Any],
    window_from: datetime,
    cut_at: datetime,
    release: bool,
    actor: str,
    reason: str,
    key: str | None = None,
    origin: dict[str, Any] | None = None,
) -> Run:
    """Queue a training of `entry` on rows with time in [window_from, cut_at).

    A promotion trains nothing: its `origin` says where the version comes from, its `key` that it comes once.
    """
    number = moves.number(tx, moves.EVERYWHERE, "run")
    run_id = f"run-{number}"
    values = {
        "id": run_id,
        "number": number,
        "project": project,
        "purpose": purpose,
        "entry": entry,
        "params": params,
        "release": release,
        "window_from": window_from,
        "cut_at": cut_at,
        "reason": reason,
        "actor": actor,
        "created_at": tx.now,
        "key": key,
        "origin": origin,
    }
    moves.create(tx, tables.runs, RUNS, values, actor=actor, reason=reason)
    return rows.get(tx, Run, run_id)


@dataclass(frozen=True)
class Trained:
    """What a finished training hands over."""

    digest: str
    executor: str
    task: str
    parity: dict[str, Any]
    metrics: dict[str, float]
    summary: dict[str, Any]


def set_inputs(
    tx: Tx,
    run: Run,
    fence: int,
    *,
    dataset: int,
    key: str | None,
    key_parts: dict[str, Any],
    tree: str,
    window_from: datetime,
    cut_at: datetime,
) -> None:
    """Record what a run is about to train on; refused when its lease was lost."""
    guard = (tables.runs.c.id == run.id) & (tables.runs.c.fence == fence) & (tables.runs.c.state == RunState.running)
    values = {"dataset": dataset, "key": key, "key_parts": key_parts, "tree": tree}
    changed = tx.execute(update(tables.runs).where(guard).values(**values, window_from=window_from, cut_at=cut_at))
    if changed.rowcount != 1:
        raise Conflict(f"run {run.id} was taken over by somebody else; this attempt changes nothing")


def resume(tx: Tx, run: Run, *, actor: str, reason: str) -> Run:
    """Have a failed run go on with the rows it had: what its steps have finished stays."""
    moves.move(
        tx,
        tables.runs,
        RUNS,
        run.id,
        RunEvent.resume,
        actor=actor,
        reason=reason,
        error=None,
        finished_at=None,
        attempts=0,
        not_before=None,
    )
    return rows.get(tx, Run, run.id)


def cached(tx: Tx, project: str, key: str) -> Run | None:
    """An earlier run with the same key that ended well."""
    box = tables.runs
    return rows.first(
        tx,
        Run,
        box.c.project == project,
        box.c.key == key,
        box.c.state == RunState.succeeded,
        box.c.cached_from.is_(None),
    )


def reuse(tx: Tx, run: Run, fence: int, earlier: Run, *, actor: str) -> Run:
    """End a run with the version of an equal one."""
    reason = f"nothing changed since {earlier.id}: version {earlier.version} is what training again would give"
    moves.move(
        tx,
        tables.runs,
        RUNS,
        run.id,
        RunEvent.succeed,
        actor=actor,
        reason=reason,
        fence=fence,
        version=earlier.version,
        cached_from=earlier.id,
        metrics=earlier.metrics,
        finished_at=tx.now,
    )
    return rows.get(tx, Run, run.id)


def succeed(tx: Tx, run: Run, fence: int, trained: Trained, *, actor: str) -> Version:
    """End a run with a new model version."""
    number = moves.number(tx, run.project, "version")
    figures = ", ".join(f"{name} {figure(value)}" for name, value in sorted(trained.metrics.items())[:3])
    done = "taken over, packaged" if run.purpose is Purpose.promotion else "trained and packaged"
    reason = f"version {number} {done} for {trained.executor}" + (f" ({figures})" if figures else "")
    moves.move(
        tx,
        tables.runs,
        RUNS,
        run.id,
        RunEvent.succeed,
        actor=actor,
        reason=reason,
        fence=fence,
        version=number,
        metrics=trained.metrics,
        finished_at=tx.now,
    )
    values = {
        "id": version_id(run.project, number),
        "project": run.project,
        "number": number,
        "run": run.id,
        "digest": trained.digest,
        "executor": trained.executor,
        "task": trained.task,
        "parity": trained.parity,
        "metrics": trained.metrics,
        "summary": trained.summary,
        "trained_from": run.window_from,
        "trained_to": run.cut_at,
        "purpose": str(run.purpose),
        "created_at": tx.now,
    }
    moves.create(tx, tables.versions, VERSIONS, values, actor=actor, reason=reason)
    outbox.put(tx, run.project, "tracking", f"tracking/{run.id}.{fence}", {"run": run.id})
    outbox.put(
        tx, run.project, "tracking", f"tracking/{run.project}/v{number}", {"project": run.project, "version": number}
    )
    return version(tx, run.project, number)


def fail(tx: Tx, run: Run, fence: int, error: str, *, actor: str) -> None:
    moves.move(
        tx,
        tables.runs,
        RUNS,
        run.id,
        RunEvent.fail,
        actor=actor,
        reason=error,
        fence=fence,
        error=error,
        finished_at=tx.now,
    )
    outbox.put(tx, run.project, "tracking", f"tracking/{run.id}.{fence}", {"run": run.id})


def version_id(project: str, number: int) -> str:
    return f"{project}/v{number}"


def version(tx: Tx, project: str, number: int) -> Version:
    """That version, or `NotFound`."""
    return rows.get_where(
        tx,
        Version,
        f"version {number} of {project}",
        tables.versions.c.project == project,
        tables.versions.c.number == number,
    )
