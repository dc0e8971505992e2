"""The worker's part of a run: bring the data up to date, train in a fresh process, record how it ended."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from trueline.control import endpoints, gates, runs
from trueline.control.context import Context
from trueline.control.runs import Trained
from trueline.data.tables import Tables
from trueline.domain.gates import Gate
from trueline.domain.runs import RUNS, Purpose, Run, RunEvent, RunState
from trueline.domain.versions import VersionState
from trueline.errors import Conflict, TruelineError, Unavailable
from trueline.pipelines import preparation, tree
from trueline.pipelines.execute import Trainer
from trueline.pipelines.key import run_key
from trueline.pipelines.preparation import Prepared
from trueline.pipelines.spec import TrainResult
from trueline.store import moves, rows
from trueline.store import tables as stored
from trueline.store.engine import Tx

LEASE = timedelta(seconds=30)
RENEW_SECONDS = 10.0
RETRY = timedelta(seconds=2)
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
        with context.store.begin() as tx:
            claimed = moves.claim(
                tx,
                stored.runs,
                RUNS,
                RunEvent.claim,
                project=context.project.name,
                waiting=RunState.queued,
                busy=RunState.running,
                owner=context.actor,
                lease=LEASE,
            )
            if claimed is None:
                return False
            run = rows.get(tx, Run, claimed[0])
            attempts = int(
                tx.execute(stored.runs.select().where(stored.runs.c.id == run.id)).mappings().one()["attempts"]
            )
        fence = claimed[1]
        if attempts > MOST_ATTEMPTS:
            fail(
                context,
                run,
                fence,
                f"given up: {MOST_ATTEMPTS} attempts ended with the death of their worker or without an end",
            )
            return True
        try:
            with renewed(context, run.id, fence, self._trainer.close):
                self._work(context, run, fence)
        except Conflict:
            return True  # somebody took the run over; theirs counts
        except Unavailable as problem:
            requeue(context, run, fence, str(problem))
        except TruelineError as problem:
            fail(context, run, fence, str(problem))
        except Exception as problem:  # the edge of a loop: a run that meets a defect ends, and the loop goes on
            log.exception("a defect in trueline met %s", run.id)
            fail(
                context,
                run,
                fence,
                f"a defect in trueline: {type(problem).__name__}: {problem}; the worker's log has the traceback",
            )
        return True

    def _work(self, context: Context, run: Run, fence: int) -> None:
        prepared = preparation.prepare(context, self._tables, run)
        key = run_key(prepared.key_parts)
        code = tree.snapshot(context.root)
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
            run = rows.get(tx, Run, run.id)
            earlier = runs.cached(tx, run.project, key)
            if earlier is not None:
                run = runs.reuse(tx, run, fence, earlier, actor=context.actor)
                _to_gate(tx, run)
                return
        context.folder.run(run.id).mkdir(parents=True, exist_ok=True)
        tree.keep(code, context.root, context.folder.run(run.id))
        result = self._trainer.train(prepared.spec)
        with context.store.begin() as tx:
            runs.succeed(tx, run, fence, _trained(result, prepared), actor=context.actor)
            run = rows.get(tx, Run, run.id)
            _to_gate(tx, run)
            if run.purpose is not Purpose.manual:
                reason = f"version {run.version} scores in shadow from now on"
                endpoints.route(
                    tx, run.project, context.folder, context.project.release.stick_to, actor="rehearsal", reason=reason
                )

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


def requeue(context: Context, run: Run, fence: int, problem: str) -> None:
    with context.store.begin() as tx:
        moves.move(
            tx,
            stored.runs,
            RUNS,
            run.id,
            RunEvent.requeue,
            actor=context.actor,
            reason=f"not possible now, tried again later: {problem}",
            fence=fence,
            not_before=tx.wall + RETRY,
        )


def fail(context: Context, run: Run, fence: int, problem: str) -> None:
    with context.store.begin() as tx:
        runs.fail(tx, run, fence, problem, actor=context.actor)


@contextmanager
def renewed(context: Context, run_id: str, fence: int, lost: Callable[[], None]) -> Iterator[None]:
    """Keep the lease of a run alive while its training goes on; `lost` ends the training of a run taken over."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_SECONDS):
            try:
                with context.store.begin() as tx:
                    kept = moves.renew(tx, stored.runs, run_id, fence, LEASE)
                if not kept and not done.is_set():
                    lost()
                    return
            except Unavailable:
                continue  # the next renewal is in time too; a lost lease is found at the end

    thread = threading.Thread(target=renew, name=f"lease of {run_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
