"""The worker's part of a run: bring the data up to date, train in a fresh process, record how it ended."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta

from trueline.control import artefacts, endpoints, gates, runs, work
from trueline.control.context import Context
from trueline.control.runs import Trained
from trueline.control.work import Claimed, Kind
from trueline.data.tables import Tables
from trueline.domain.gates import Gate
from trueline.domain.runs import RUNS, Purpose, Run, RunEvent, RunState
from trueline.domain.versions import VersionState
from trueline.errors import Conflict, TruelineError, Unavailable
from trueline.pipelines import finished, piped, preparation, promoted, tree
from trueline.pipelines.execute import Trainer
from trueline.pipelines.key import run_key
from trueline.pipelines.prepared import Prepared, again
from trueline.pipelines.spec import TrainResult
from trueline.store import rows
from trueline.store import tables as stored
from trueline.store.engine import Tx

WORK = Kind(
    stored.runs,
    RUNS,
    claim=RunEvent.claim,
    requeue=RunEvent.requeue,
    waiting=RunState.queued,
    busy=RunState.running,
    retry=timedelta(seconds=2),
)
MOST_ATTEMPTS = 10
"""A run that was taken up so often without an end (its worker died, or something it needs is away) has failed."""

log = logging.getLogger("trueline")


class Training:
    """Works on runs one at a time, with one warm helper process to train from."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._trainer = Trainer()

    def work_one(self, context: Context) -> bool:
        """Take up the oldest waiting run, if there is one."""
        claimed = work.claim(context, WORK)
        if claimed is None:
            return False
        with context.store.read() as tx:
            run = rows.get(tx, Run, claimed.id)
            attempts = int(
                tx.execute(stored.runs.select().where(stored.runs.c.id == run.id)).mappings().one()["attempts"]
            )
        fence = claimed.fence
        if attempts > MOST_ATTEMPTS:
            fail(
                context,
                run,
                claimed,
                f"given up: {MOST_ATTEMPTS} attempts ended with the death of their worker or without an end",
            )
            return True
        try:
            with work.renewed(context, WORK, claimed, self._trainer.close):
                self._work(context, run, fence)
        except Conflict as problem:
            with suppress(Conflict):  # somebody took the run over; theirs counts
                work.requeue(context, WORK, claimed, str(problem), orderly=False)
        except Unavailable as problem:
            work.requeue(context, WORK, claimed, str(problem))
        except TruelineError as problem:
            fail(context, run, claimed, str(problem))
        except Exception as problem:  # the edge of a loop: a run that meets a defect ends, and the loop goes on
            log.exception("a defect in trueline met %s", run.id)
            fail(
                context,
                run,
                claimed,
                f"a defect in trueline: {type(problem).__name__}: {problem}; the worker's log has the traceback",
            )
        return True

    def _work(self, context: Context, run: Run, fence: int) -> None:
        if run.purpose is Purpose.promotion:
            promoted.take_over(context, self._tables, run, fence)
            return
        prepared = again(context, run) or preparation.prepare(context, self._tables, run)
        code = tree.snapshot(context.root)
        stepwise = piped.is_pipeline(context.root, run.entry)
        spec, key = prepared.spec, None if stepwise else run_key(prepared.key_parts)
        if self._begun(context, run, fence, prepared, code, key):
            return
        tree.keep(code, context.root, context.folder.run(run.id))
        if stepwise:
            spec, key = piped.make(context, self._trainer.processes, prepared, run, fence)
            if self._begun(context, run, fence, prepared, code, key):
                return
        result = finished.once(spec, str(key), self._trainer.train)
        artefacts.keep(context, context.folder.run(run.id), result.digest)
        artefacts.keep_said(context, run.id, fence)
        with context.store.begin() as tx:
            run = rows.get(tx, Run, run.id)
            runs.succeed(tx, run, fence, _trained(result, prepared), actor=context.actor)
            run = rows.get(tx, Run, run.id)
            _to_gate(tx, run)
            if run.purpose is not Purpose.manual:
                reason = f"version {run.version} scores in shadow from now on"
                endpoints.route(
                    tx, run.project, context.folder, context.project.release.stick_to, actor="rehearsal", reason=reason
                )

    def _begun(
        self, context: Context, run: Run, fence: int, prepared: Prepared, code: tree.CodeTree, key: str | None
    ) -> bool:
        """Record what a run trains on; whether that ends it, because an equal one has been trained."""
        with context.store.begin() as tx:
            runs.set_inputs(
                tx,
                run,
                fence,
                dataset=prepared.dataset,
                key=key,
                key_parts=prepared.key_parts,
                tree=code.digest,
                cut_at=prepared.cut_at,
                window_from=prepared.window_from,
            )
            earlier = runs.cached(tx, run.project, key) if key is not None else None
            if earlier is not None:
                _to_gate(tx, runs.reuse(tx, rows.get(tx, Run, run.id), fence, earlier, actor=context.actor))
        return earlier is not None

    def warm(self) -> None:
        self._trainer.warm()

    def close(self) -> None:
        self._trainer.close()


def _trained(result: TrainResult, prepared: Prepared) -> Trained:
    parity = {
        "worst": result.parity.worst,
        "rows": result.parity.rows,
        "tolerance": result.parity.tolerance,
        "tried": list(result.parity.tried),
        "skipped": list(result.parity.skipped),
        "executor": result.parity.executor,
        "speed": None if result.parity.speed is None else asdict(result.parity.speed),
    }
    return Trained(result.digest, result.kind, prepared.spec.task, parity, result.metrics, result.summary)


def _to_gate(tx: Tx, run: Run) -> None:
    """What a person asked for is judged at once; a rehearsed refit when the rehearsal calls for it."""
    if run.purpose is not Purpose.manual or run.version is None:
        return
    box = stored.gates
    version = runs.version(tx, run.project, run.version)
    newest = rows.first(tx, Gate, box.c.project == run.project, box.c.version == run.version, newest=True)
    if newest is not None and (newest.state != "decided" or version.state is not VersionState.candidate):
        return
    gates.request(tx, run.project, run.version, actor=run.actor, reason=f"{run.id} made version {run.version}")


def fail(context: Context, run: Run, claimed: Claimed, problem: str) -> None:
    """Record that a run has failed, its logs kept before; a storage that is away does not have it trained again."""
    try:
        with work.renewed(context, WORK, claimed):
            artefacts.keep_said(context, run.id, claimed.fence)
    except (Unavailable, OSError) as away:
        log.warning("what %s said is on this machine only: %s", run.id, away)
    with context.store.begin() as tx:
        runs.fail(tx, run, claimed.fence, problem, actor=context.actor)
