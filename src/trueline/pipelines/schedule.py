"""When a run starts by itself, and on which rows.

A *manual* run trains on everything before its last blocks, which it holds out for the gate. A *refit* (rehearsal or
alert) trains on the recent window up to this moment: it is judged by the blocks that follow, in shadow.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from trueline.control import endpoints, incidents, runs
from trueline.control.context import Context
from trueline.control.rounds import Round
from trueline.domain.blocks import Block, BlockState
from trueline.domain.project import Project
from trueline.domain.runs import Purpose, Run, RunState
from trueline.errors import Conflict
from trueline.store import rows, tables
from trueline.store.engine import Tx

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def start_manual(
    tx: Tx, context: Context, *, entry: str | None, params: dict[str, Any], release: bool, actor: str, reason: str
) -> Run:
    """Queue the run somebody asked for."""
    project = context.project
    return runs.start(
        tx,
        project.name,
        purpose=Purpose.manual,
        entry=entry or project.train,
        params={**project.params, **params},
        window_from=BEGINNING,
        cut_at=tx.now - project.gates.holdout,
        release=release,
        actor=actor,
        reason=reason,
    )


def start_refit(tx: Tx, context: Context, *, purpose: Purpose, actor: str, reason: str) -> Run:
    """Queue a refit of the project's own training on the recent window."""
    project = context.project
    if endpoints.get(tx, project.name).champion is None:
        raise Conflict("a refit is compared with the champion, and nothing serves yet; start with a manual run")
    if _unfinished(tx, project.name):
        raise Conflict("a run is waiting or under way; wait for it")
    return runs.start(
        tx,
        project.name,
        purpose=purpose,
        entry=project.train,
        params=dict(project.params),
        window_from=tx.now - project.retrain.window,
        cut_at=tx.now,
        release=True,
        actor=actor,
        reason=reason,
    )


def step(context: Context) -> Round:
    """Start the refit that is due, if one is."""
    project = context.project
    every = project.retrain.rehearse
    if every is None:
        return Round(busy=False)
    with context.store.read() as tx:
        last = _last_refit(tx, project)
        evidence = _fresh_evidence(tx, project, last)
        alarmed = _unanswered_alert(tx, project, last)
        waiting = _unfinished(tx, project.name)
        fault = incidents.open_fault(tx, project.name)
    if last is None or waiting or fault is not None:  # a refit would learn from a broken input
        return Round(busy=False)
    now = context.clock.now()
    due = last + every
    if alarmed is not None:
        due = min(due, last + project.retrain.cooldown)
        if now >= due:
            return _start(context, Purpose.alert, f"{alarmed} is open: is a newer model better?")
    if due > now:
        return Round(busy=False, next_due=due)
    if not evidence:
        return Round(busy=False)
    return _start(context, Purpose.rehearsal, f"every {describe(every)}: would retraining help?")


def describe(span: timedelta) -> str:
    """A span for a sentence.

    >>> describe(timedelta(days=7)), describe(timedelta(hours=6))
    ('7 days', '6 hours')
    """
    hours = span / timedelta(hours=1)
    return f"{hours / 24:g} days" if hours >= 24 else f"{hours:g} hours"


def _start(context: Context, purpose: Purpose, reason: str) -> Round:
    with context.store.begin() as tx:
        start_refit(
            tx, context, purpose=purpose, actor="schedule" if purpose is Purpose.rehearsal else "alert", reason=reason
        )
    return Round(busy=True)


def _last_refit(tx: Tx, project: Project) -> datetime | None:
    """When the last refit was started, or the first champion was released; None while nothing serves."""
    box = tables.runs
    run = rows.first(
        tx, Run, box.c.project == project.name, box.c.purpose.in_((Purpose.rehearsal, Purpose.alert)), newest=True
    )
    return run.created_at if run is not None else endpoints.get(tx, project.name).champion_since


def _fresh_evidence(tx: Tx, project: Project, last: datetime | None) -> bool:
    """Whether labelled blocks came since: without them a refit would see nothing new."""
    if last is None:
        return False
    box = tables.blocks
    found = rows.find(tx, Block, box.c.project == project.name, box.c.state == BlockState.judged, box.c.due_at > last)
    return any((block.evidence or {}).get("served", {}).get("n", 0) for block in found)


def _unanswered_alert(tx: Tx, project: Project, last: datetime | None) -> str | None:
    """An open incident that advises retraining and that no refit was started for."""
    incident = incidents.open_one(tx, project.name)
    if incident is None or last is None or incident.advice != "retrain" or incident.opened_at <= last:
        return None
    return incident.id


def _unfinished(tx: Tx, project: str) -> bool:
    box = tables.runs
    return (
        rows.first(tx, Run, box.c.project == project, box.c.state.in_((RunState.queued, RunState.running))) is not None
    )
