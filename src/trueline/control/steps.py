"""Steps of a run: planning them, and recording what came of each. Every change is its run's holder's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import update

from trueline.domain.runs import Run, RunState
from trueline.domain.steps import STEPS, Step, StepEvent, StepState, backoff, step_id
from trueline.errors import Conflict, NotFound
from trueline.store import moves, rows, tables
from trueline.store.engine import Tx

BOX = tables.steps
LOOKED_BACK = 50
"""Runs in which an earlier step of the same name is looked for, to tell what differs."""


@dataclass(frozen=True)
class Planned:
    """A step as the pipeline now has it."""

    name: str
    number: int
    entry: str
    needs: tuple[str, ...]
    retries: int
    timeout: float | None


def held(tx: Tx, run: Run, fence: int) -> None:
    """Refuse what follows in this transaction when the run was lost to somebody else."""
    box = tables.runs
    found = tx.execute(box.select().where(box.c.id == run.id).with_only_columns(box.c.fence, box.c.state)).first()
    if found is None or tuple(found) != (fence, RunState.running):
        raise Conflict(f"run {run.id} was taken over by somebody else; this attempt changes nothing")


def plan(tx: Tx, run: Run, planned: Iterable[Planned], *, actor: str) -> None:
    """Make the run's steps those of the pipeline: new ones wait, what is gone is dropped, what is finished stays."""
    known = {step.name: step for step in of_run(tx, run.id)}
    for one in planned:
        step = known.pop(one.name, None)
        values = {"number": one.number, "entry": one.entry, "needs": list(one.needs), "retries": one.retries}
        values |= {"timeout": one.timeout}
        if step is None:
            row = {"id": step_id(run.id, one.name), "run": run.id, "project": run.project, "name": one.name, **values}
            needs = f"takes from {', '.join(one.needs)}" if one.needs else "takes from no other step"
            moves.create(tx, BOX, STEPS, row, actor=actor, reason=f"{one.entry} {needs}")
            continue
        if any(getattr(step, name) != value for name, value in values.items()):
            tx.execute(update(BOX).where(BOX.c.id == step.id).values(**values))
        if step.state in (StepState.dropped, StepState.failed):
            reopen(tx, step, actor=actor, reason="its run goes on")
    for step in known.values():
        if step.state is StepState.running:
            reopen(tx, step, actor=actor, reason="its run was taken over")
        if step.state is not StepState.dropped:
            moves.move(tx, BOX, STEPS, step.id, StepEvent.drop, actor=actor, reason="the pipeline has no such step now")


def claim(tx: Tx, step: Step, *, key: str, key_parts: Mapping[str, Any], owner: str, reason: str) -> int:
    """Begin an attempt; its fence token."""
    return moves.take(
        tx,
        BOX,
        STEPS,
        StepEvent.claim,
        step.id,
        owner=owner,
        reason=reason,
        key=key,
        key_parts=dict(key_parts),
        cached_from=None,
        output=None,
        error=None,
        started_at=tx.wall,
        finished_at=None,
    )


def reuse(
    tx: Tx, step: Step, earlier: Step, *, key: str, key_parts: Mapping[str, Any], actor: str, reason: str
) -> None:
    """Take the output of an earlier step with the same key."""
    moves.move(
        tx,
        BOX,
        STEPS,
        step.id,
        StepEvent.reuse,
        actor=actor,
        reason=reason,
        key=key,
        key_parts=dict(key_parts),
        cached_from=earlier.cached_from or earlier.id,
        output=earlier.output,
        error=None,
        finished_at=tx.wall,
    )


def succeed(tx: Tx, step: Step, fence: int, output: Mapping[str, Any], *, actor: str, reason: str) -> None:
    moves.move(
        tx,
        BOX,
        STEPS,
        step.id,
        StepEvent.succeed,
        actor=actor,
        reason=reason,
        fence=fence,
        output=dict(output),
        failures=0,
        finished_at=tx.wall,
    )


def retry(tx: Tx, step: Step, fence: int, problem: str, *, actor: str) -> None:
    """Have another attempt made later."""
    failures = step.failures + 1
    wait = backoff(failures)
    reason = f"{problem}; tried again in {wait.total_seconds():g} s"
    moves.move(
        tx,
        BOX,
        STEPS,
        step.id,
        StepEvent.retry,
        actor=actor,
        reason=reason,
        fence=fence,
        failures=failures,
        error=problem,
        not_before=tx.wall + wait,
    )


def fail(tx: Tx, step: Step, fence: int, problem: str, *, actor: str) -> None:
    moves.move(
        tx,
        BOX,
        STEPS,
        step.id,
        StepEvent.fail,
        actor=actor,
        reason=problem,
        fence=fence,
        failures=0,  # of a run that goes on, all attempts are allowed again
        error=problem,
        finished_at=tx.wall,
    )


def reopen(tx: Tx, step: Step, *, actor: str, reason: str) -> None:
    """Have it made again."""
    moves.move(tx, BOX, STEPS, step.id, StepEvent.reopen, actor=actor, reason=reason, not_before=None, failures=0)


def of_run(tx: Tx, run_id: str) -> list[Step]:
    return rows.find(tx, Step, BOX.c.run == run_id)


def get(tx: Tx, step: str) -> Step:
    """The step of that id (run-7:prepare), or `NotFound`."""
    found = rows.first(tx, Step, BOX.c.id == step)
    if found is None:
        raise NotFound(f"there is no step {step}; `trueline run` names a run's steps, as run-7:prepare")
    return found


def made(tx: Tx, project: str, keys: Iterable[str]) -> dict[str, list[Step]]:
    """The finished steps of those keys, newest first."""
    wanted = list(keys)
    found: dict[str, list[Step]] = {key: [] for key in wanted}
    where = (BOX.c.project == project, BOX.c.key.in_(wanted), BOX.c.state == StepState.succeeded)
    for step in rows.find(tx, Step, *where, newest=True) if wanted else ():
        found[step.key or ""].append(step)
    return found


def before(tx: Tx, step: Step) -> list[Step]:
    """Steps of that name with a key in other runs of the project, newest run first."""
    box = tables.runs
    others = box.select().with_only_columns(box.c.id).where(box.c.project == step.project, box.c.id != step.run)
    runs = [row.id for row in tx.execute(others.order_by(box.c.number.desc()).limit(LOOKED_BACK))]
    found = rows.find(tx, Step, BOX.c.run.in_(runs), BOX.c.name == step.name, BOX.c.key.is_not(None))
    return sorted(found, key=lambda one: runs.index(one.run))
