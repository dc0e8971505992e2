"""The worker's part of a gate: score the packaged candidate and its rivals on the same later rows, and decide.

What is scored is the artefact that would be released, loaded as a server would load it. Rows are those of the dataset
later than the training rows of every model compared; feedback rows carry features as they were served.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from sqlalchemy import select

from trueline.control import artefacts, gates, incidents, quarantine, runs, work
from trueline.control.context import Context
from trueline.control.work import Kind
from trueline.data import contract_io
from trueline.data.tables import Tables
from trueline.domain.contracts import Contract, Role
from trueline.domain.gates import GATES, Gate, GateEvent, GateState
from trueline.domain.releases import Release, ReleaseState
from trueline.domain.verdicts import Verdict
from trueline.domain.versions import Version
from trueline.errors import GateInconclusive, TruelineError, Unavailable
from trueline.gates import scoring
from trueline.gates.decide import GateDecision, GateEvidence, GatePolicy, Metric, Presence, Sanity, decide_gate
from trueline.packaging.executors import Executor, load
from trueline.stats.blocks import BlockPair
from trueline.store import rows, tables
from trueline.store.engine import Tx

CONTRACT = "contract.yaml"
FRESHNESS_ALPHA = 0.05
SAMPLE = 1000
MOST_ATTEMPTS = 10
"""A gate that was taken up so often without an end kills its worker; nothing behind it would ever be worked on."""
EARLIER = 10
"""Earlier champions that a candidate is held against, newest first."""

WORK = Kind(
    tables.gates,
    GATES,
    claim=GateEvent.claim,
    requeue=GateEvent.requeue,
    waiting=GateState.pending,
    busy=GateState.evaluating,
    retry=timedelta(seconds=2),
)

log = logging.getLogger("trueline")


def work_one(context: Context, opened: Tables) -> bool:
    """Evaluate the oldest waiting gate, if there is one."""
    claimed = work.claim(context, WORK)
    if claimed is None:
        return False
    with context.store.read() as tx:
        gate = rows.get(tx, Gate, claimed.id)
        attempts = tx.execute(select(tables.gates.c.attempts).where(tables.gates.c.id == gate.id)).scalar_one()
    try:
        _refuse_killer(attempts)
        with work.renewed(context, WORK, claimed):
            decision, evidence = evaluate(context, opened, gate)
    except Unavailable as problem:
        work.requeue(context, WORK, claimed, str(problem))
        return True
    except Exception as problem:  # the edge of a loop: a gate that cannot be evaluated says so and never hangs
        if not isinstance(problem, TruelineError):
            log.exception("a defect in trueline met %s", gate.id)
        decision = GateDecision(Verdict.error, f"the gate could not be evaluated: {problem}", ())
        evidence = None
    kept = {"checks": [asdict(check) for check in decision.checks], **(_plain(evidence) if evidence else {})}
    with context.store.begin() as tx:
        gates.decide(
            tx,
            gate,
            claimed.fence,
            verdict=decision.verdict,
            reason=decision.reason,
            evidence=kept,
            actor=context.actor,
            approve=context.project.gates.approve,
        )
    return True


def _refuse_killer(attempts: int) -> None:
    if attempts > MOST_ATTEMPTS:
        raise GateInconclusive(f"{MOST_ATTEMPTS} attempts ended with the death of their worker")


def _plain(evidence: GateEvidence) -> dict[str, Any]:
    fields = asdict(evidence)
    return {name: value for name, value in fields.items() if value is not None}


def evaluate(context: Context, opened: Tables, gate: Gate) -> tuple[GateDecision, GateEvidence]:
    """Gather the evidence and ask for the verdict."""
    with context.store.read() as tx:
        version = runs.version(tx, gate.project, gate.version)
        champion = runs.version(tx, gate.project, gate.champion) if gate.champion is not None else None
        earlier = _earlier(tx, gate.project, champion)
    vouched = (gate.evidence or {}).get("vouched_by") or {}
    quality = context.project.gates.quality
    policy = GatePolicy(margin=quality.by, confidence=quality.confidence, alpha=FRESHNESS_ALPHA)
    contract = contract_io.read(context.root / CONTRACT)
    held_out = later_rows(context, opened, contract, [version, *([champion] if champion else [])])
    own = later_rows(context, opened, contract, [version])
    folder = artefacts.model(context, version)
    try:
        candidate = load(folder, version.digest)
    except TruelineError as problem:
        evidence = GateEvidence(version.number, Sanity(loads=False, problem=str(problem)))
        return decide_gate(evidence, policy), evidence
    sample = own if own.height else held_out if held_out.height else _trained_on(context, opened, version)
    sanity = _sanity(version, candidate, sample, gate)
    evidence = GateEvidence(
        version=version.number,
        sanity=sanity,
        presence=_presence(version, candidate, opened, contract),
        champion=champion.number if champion else None,
        vouched_by=vouched.get("process"),
        wealth=vouched.get("wealth"),
    )
    if sanity.finite:
        evidence = _compared(context, contract, version, candidate, champion, earlier, held_out, evidence)
        evidence = _measured(context, contract, candidate, own, evidence)
    return decide_gate(evidence, policy), evidence


def later_rows(context: Context, opened: Tables, contract: Contract, versions: list[Version]) -> pl.DataFrame:
    """Labelled rows of the dataset that none of these versions was trained on, each with its block."""
    time = next((column.name for column in contract.of(Role.time)), None)
    if time is None:
        held_out = artefacts.held_out(context, versions[0])
        found = pl.DataFrame() if held_out is None else pl.read_ipc(held_out)
    else:
        found = opened.dataset.read(start=max(version.trained_to for version in versions), end=None, time=time)
    if found.is_empty():
        return found
    with context.store.read() as tx:
        faults = incidents.faults(tx, context.project.name)
    found = found.filter(pl.col(contract.target.name).is_not_null() & ~quarantine.spoilt(found, faults, time))
    return scoring.with_blocks(found, time)


def _trained_on(context: Context, opened: Tables, version: Version) -> pl.DataFrame:
    """Some rows to try a model on where there are none later than its training; a promoted one brought none along."""
    rows_file = context.folder.run(version.run) / "rows.arrow"
    found = pl.read_ipc(rows_file) if rows_file.exists() else opened.dataset.read(start=None, end=None, time=None)
    return found.head(SAMPLE)


def _sanity(version: Version, candidate: Executor, sample: pl.DataFrame, gate: Gate) -> Sanity:
    parity = version.parity
    proved = float(parity.get("worst", 0.0)) <= float(parity.get("tolerance", 0.0))
    try:
        finite = bool(np.isfinite(scoring.predict(candidate, sample)).all())
    except (TruelineError, RuntimeError, ValueError) as problem:
        return Sanity(loads=True, finite=False, parity=proved, problem=f"{gate.id}: {problem}")
    return Sanity(loads=True, finite=finite, parity=proved)


def _presence(version: Version, candidate: Executor, opened: Tables, contract: Contract) -> tuple[Presence, ...]:
    """In what share of rows each input has a value: among training rows, and among rows as they were served."""
    time = next((column.name for column in contract.of(Role.time)), None)
    served = opened.dataset.read(start=None, end=None, time=time).filter(pl.col("_origin") == "feedback").tail(5000)
    if served.is_empty():
        return ()
    trained = version.summary.get("presence", {})
    return tuple(
        Presence(name, float(trained.get(name, 1.0)), served.height, served.height - served[name].null_count())
        for name in candidate.signature.names
    )


def _compared(
    context: Context,
    contract: Contract,
    version: Version,
    candidate: Executor,
    champion: Version | None,
    earlier: list[Version],
    held_out: pl.DataFrame,
    evidence: GateEvidence,
) -> GateEvidence:
    """Merit on the later rows: against the champion and the best before it, or against the constant baseline."""
    if not held_out.height:
        empty: tuple[BlockPair, ...] = ()
        return _with(evidence, baseline=empty) if champion is None else _with(evidence, against_champion=empty)
    losses = scoring.losses(candidate, held_out, contract, version.task)
    if champion is None:
        constant = scoring.constant_losses(version, held_out, contract)
        return _with(evidence, baseline=scoring.pairs(held_out, losses, constant))
    theirs = scoring.losses(_load(context, champion), held_out, contract, version.task)
    evidence = _with(evidence, against_champion=scoring.pairs(held_out, losses, theirs))
    others = [
        (scoring.losses(_load(context, one), held_out, contract, version.task), one.number)
        for one in earlier
        if one.trained_to <= _begins(version, champion)
    ]
    if others:
        best, number = min(others, key=lambda pair: float(pair[0].mean()))
        evidence = _with(evidence, best_earlier=number, against_best_earlier=scoring.pairs(held_out, losses, best))
    return evidence


def _begins(*versions: Version) -> datetime:
    """No row at or after it was trained on by any of them."""
    return max(version.trained_to for version in versions)


def _measured(
    context: Context,
    contract: Contract,
    candidate: Executor,
    own: pl.DataFrame,
    evidence: GateEvidence,
) -> GateEvidence:
    """The declared metric with its absolute bounds, where one is declared."""
    quality = context.project.gates.quality
    if quality.metric is None:
        return evidence
    value = scoring.metric(quality.metric, candidate, own, contract) if own.height else None
    return _with(evidence, metric=Metric(quality.metric, value, quality.min, quality.max))


def _with(evidence: GateEvidence, **changes: Any) -> GateEvidence:
    fields = {name: getattr(evidence, name) for name in evidence.__dataclass_fields__}
    return GateEvidence(**{**fields, **changes})


def _load(context: Context, version: Version) -> Executor:
    return load(artefacts.model(context, version), version.digest)


def _earlier(tx: Tx, project: str, champion: Version | None) -> list[Version]:
    """The champions before this one, newest first."""
    if champion is None:
        return []
    box = tables.releases
    states = (ReleaseState.done, ReleaseState.promoted)
    found = rows.find(tx, Release, box.c.project == project, box.c.state.in_(states), newest=True)
    numbers = list(dict.fromkeys(release.version for release in found if release.version != champion.number))
    return [runs.version(tx, project, number) for number in numbers[:EARLIER]]
