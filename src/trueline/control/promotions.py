"""Promotions: a version of another target asked for here, and what is known of one that is to go on from here."""

from __future__ import annotations

from sqlalchemy import select

from trueline.control import runs
from trueline.domain.gates import Gate
from trueline.domain.promotions import Origin
from trueline.domain.runs import Purpose, Run, RunState
from trueline.domain.versions import VersionState
from trueline.errors import NotAllowed
from trueline.store import rows, tables
from trueline.store.engine import Tx


def describe(tx: Tx, project: str, target: str, number: int) -> Origin:
    """What goes along with a version that leaves this target.

    Raises:
        NotFound: there is no such version.
        NotAllowed: it is not approved here.
    """
    version = runs.version(tx, project, number)
    if version.state is not VersionState.approved:
        why = f" ({version.waiting})" if version.waiting else "; its gate must pass, or somebody must waive it"
        raise NotAllowed(f"version {number} of {target} is {version.state}{why}: only approved versions go on")
    run = rows.get(tx, Run, version.run)
    gate = rows.first(tx, Gate, tables.gates.c.project == project, tables.gates.c.version == number, newest=True)
    return Origin(
        target=target,
        version=number,
        digest=version.digest,
        run=run.id,
        entry=run.entry,
        params=run.params,
        key=run.origin["key"] if run.origin else run.key,
        tree=run.tree,
        dataset_digest=run.origin["dataset_digest"] if run.origin else _digest(tx, project, run.dataset),
        gate=None if gate is None else f"{gate.verdict}: {gate.reason}",
        executor=version.executor,
        task=version.task,
        parity=version.parity,
        metrics=version.metrics,
        summary=version.summary,
        trained_from=version.trained_from,
        trained_to=version.trained_to,
    )


def known(tx: Tx, project: str, digest: str) -> Run | None:
    """The run that brought this digest here, or is about to."""
    box = tables.runs
    return rows.first(
        tx,
        Run,
        box.c.project == project,
        box.c.key == key(digest),
        box.c.state.in_((RunState.queued, RunState.running, RunState.succeeded)),
    )


def request(tx: Tx, project: str, origin: Origin, *, actor: str, reason: str) -> Run:
    """Queue the taking over of a version whose model is staged; the run is found again when asked twice."""
    there = known(tx, project, origin.digest)
    if there is not None:
        return there
    return runs.start(
        tx,
        project,
        purpose=Purpose.promotion,
        entry=origin.entry,
        params=dict(origin.params),
        window_from=origin.trained_from,
        cut_at=origin.trained_to,
        release=True,
        actor=actor,
        reason=f"version {origin.version} of {origin.target}: {reason}",
        key=key(origin.digest),
        origin=origin.encode(),
    )


def key(digest: str) -> str:
    """The key of the run that brings a digest: a digest is brought once."""
    return f"promotion:{digest}"


def _digest(tx: Tx, project: str, number: int | None) -> str | None:
    box = tables.datasets
    found = select(box.c.digest).where(box.c.project == project, box.c.number == number)
    return None if number is None else tx.execute(found).scalar()
