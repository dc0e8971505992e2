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

from trueline.control import endpoints, gates, runs
from trueline.control.context import Context
from trueline.data import contract_io
from trueline.data.tables import Tables
from trueline.domain.contracts import Contract, Role
from trueline.domain.gates import GATES, Gate, GateEvent, GateState
from trueline.domain.releases import Release, ReleaseState
from trueline.domain.verdicts import Verdict
from trueline.domain.versions import Version
from trueline.errors import TruelineError, Unavailable
from trueline.gates import scoring
from trueline.gates.decide import GateDecision, GateEvidence, GatePolicy, Metric, Presence, Sanity, decide_gate
from trueline.packaging.executors import Executor, load
from trueline.stats.blocks import BlockPair
from trueline.store import moves, rows, tables
from trueline.store.engine import Tx

LEASE = timedelta(minutes=2)
CONTRACT = "contract.yaml"
FRESHNESS_ALPHA = 0.05
RETRY = timedelta(seconds=2)
EARLIER = 10
"""Earlier champions that a candidate is held against, newest first."""

log = logging.getLogger("trueline")


def work_one(context: Context, opened: Tables) -> bool:
    """Evaluate the oldest waiting gate, if there is one."""
    with context.store.begin() as tx:
        claimed = moves.claim(
            tx,
            tables.gates,
            GATES,
            GateEvent.claim,
            project=context.project.name,
            waiting=GateState.pending,
            busy=GateState.evaluating,
            owner=context.actor,
            lease=LEASE,
        )
        if claimed is None:
            return False
        gate = rows.get(tx, Gate, claimed[0])
    try:
        decision, evidence = evaluate(context, opened, gate)
    except Unavailable as problem:
        _requeue(context, gate, claimed[1], str(problem))
        return True
    except Exception as problem:  # the edge of a loop: a gate that cannot be evaluated says so and never hangs
        if not isinstance(problem, TruelineError):
            log.exception("a defect in trueline met %s", gate.id)
        decision = GateDecision(Verdict.error, f"the gate could not be evaluated: {problem}", ())
        evidence = None
    kept = {"checks": [asdict(check) for check in decision.checks], **(_plain(evidence) if evidence else {})}
    with context.store.begin() as tx:
        gates.decide(
            tx, gate, claimed[1], verdict=decision.verdict, reason=decision.reason, evidence=kept, actor=context.actor
        )
    return True


def _requeue(context: Context, gate: Gate, fence: int, problem: str) -> None:
    with context.store.begin() as tx:
        moves.move(
            tx,
            tables.gates,
            GATES,
            gate.id,
            GateEvent.requeue,
            actor=context.actor,
            reason=f"not possible now, tried again later: {problem}",
            fence=fence,
            not_before=tx.wall + RETRY,
        )


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
    try:
        candidate = load(endpoints.model_folder(context.folder, version), version.digest)
    except TruelineError as problem:
        evidence = GateEvidence(version.number, Sanity(loads=False, problem=str(problem)))
        return decide_gate(evidence, policy), evidence
    sanity = _sanity(version, candidate, own if own.height else held_out, context, gate)
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
        held_out = context.folder.run(versions[0].run) / "held_out.arrow"
        found = pl.read_ipc(held_out) if held_out.exists() else pl.DataFrame()
    else:
        found = opened.dataset.read(start=max(version.trained_to for version in versions), end=None, time=time)
    if found.is_empty():
        return found
    found = found.filter(pl.col(contract.target.name).is_not_null())
    return scoring.with_blocks(found, time)


def _sanity(version: Version, candidate: Executor, sample: pl.DataFrame, context: Context, gate: Gate) -> Sanity:
    parity = version.parity
    proved = float(parity.get("worst", 0.0)) <= float(parity.get("tolerance", 0.0))
    if not sample.height:
        rows_file = context.folder.run(version.run) / "rows.arrow"
        sample = pl.read_ipc(rows_file).head(1000)
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
    return load(endpoints.model_folder(context.folder, version), version.digest)


def _earlier(tx: Tx, project: str, champion: Version | None) -> list[Version]:
    """The champions before this one, newest first."""
    if champion is None:
        return []
    box = tables.releases
    states = (ReleaseState.done, ReleaseState.promoted)
    found = rows.find(tx, Release, box.c.project == project, box.c.state.in_(states), newest=True)
    numbers = list(dict.fromkeys(release.version for release in found if release.version != champion.number))
    return [runs.version(tx, project, number) for number in numbers[:EARLIER]]
