"""Why a run or a step was done again, or was not: its key held against the nearest earlier one."""

from __future__ import annotations

from dataclasses import dataclass

from trueline.control import steps
from trueline.control.context import Context
from trueline.domain.runs import Run
from trueline.domain.steps import Step
from trueline.pipelines import step_keys
from trueline.pipelines.key import difference
from trueline.pipelines.outputs import Outputs
from trueline.store import rows, tables
from trueline.store.engine import Tx

LOOKED_BACK = 50


@dataclass(frozen=True)
class WhyCached:
    id: str
    cached: bool
    nearest: str | None  # the earlier run or step that it is held against
    sentence: str
    steps: tuple[WhyCached, ...] = ()


def of_run(tx: Tx, context: Context, run: Run) -> WhyCached:
    """The run as a whole, and each of its steps."""
    parts = tuple(of_step(tx, context, step) for step in steps.of_run(tx, run.id))
    if run.cached_from is not None:
        sentence = f"not trained again: {run.cached_from} has the same key"
        return WhyCached(run.id, cached=True, nearest=run.cached_from, sentence=sentence, steps=parts)
    if run.key_parts is None:
        sentence = f"it is {run.state}, and what it trains on is not known yet"
        return WhyCached(run.id, cached=False, nearest=None, sentence=sentence, steps=parts)
    box = tables.runs
    where = (box.c.project == run.project, box.c.number < _number(tx, run.id), box.c.key_parts.is_not(None))
    earlier = [one for one in rows.find(tx, Run, *where, newest=True, limit=LOOKED_BACK) if one.key_parts]
    if not earlier:
        return WhyCached(run.id, cached=False, nearest=None, sentence="trained: no run came before it", steps=parts)
    nearest = min(earlier, key=lambda one: step_keys.differences(one.key_parts or {}, run.key_parts or {}))
    sentence = f"trained: since {nearest.id} {difference(nearest.key_parts or {}, run.key_parts)}"
    return WhyCached(run.id, cached=False, nearest=nearest.id, sentence=sentence, steps=parts)


def of_step(tx: Tx, context: Context, step: Step) -> WhyCached:
    if step.cached_from is not None:
        sentence = f"not run again: nothing it is made from changed since {step.cached_from}"
        return WhyCached(step.id, cached=True, nearest=step.cached_from, sentence=sentence)
    if step.key_parts is None:
        sentence = f"it is {step.state}, and its key is known when its inputs are there"
        return WhyCached(step.id, cached=False, nearest=None, sentence=sentence)
    number = _number(tx, step.run)
    earlier = [one for one in steps.before(tx, step) if _number(tx, one.run) < number]
    found = step_keys.nearest(step.key_parts, earlier, Outputs(context.folder.outputs))
    if found is None:
        return WhyCached(step.id, cached=False, nearest=None, sentence="run: no step of that name came before it")
    return WhyCached(step.id, cached=False, nearest=found[0].id, sentence=f"run: since {found[0].run} {found[1]}")


def _number(tx: Tx, run: str) -> int:
    box = tables.runs
    found = tx.execute(box.select().with_only_columns(box.c.number).where(box.c.id == run)).scalar_one()
    return int(found)
