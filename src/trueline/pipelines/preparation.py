"""Before a training: data brought up to date, the contract, and which rows train and which are held out.

Data has two origins: the source that the project names, and feedback, the labelled predictions with their features as
they were served. Rows without a target are kept in the dataset and neither trained on nor held out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from trueline.control import datasets, events, incidents, journals, quarantine
from trueline.control.context import Context
from trueline.data import contract_infer, contract_io, sources
from trueline.data.contract_frames import enforce
from trueline.data.datasets import Datasets, Written
from trueline.data.tables import Tables
from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.domain.runs import Purpose, Run
from trueline.errors import InvalidData, Unavailable
from trueline.pipelines import feedback
from trueline.pipelines.closure import closure
from trueline.pipelines.environment import environment
from trueline.pipelines.key import key_parts
from trueline.pipelines.prepared import SEED, THREADS, Prepared
from trueline.pipelines.spec import TrainSpec, write_spec
from trueline.store import meta

CONTRACT = "contract.yaml"
HELD_OUT_SHARE = 0.2
"""Held out where the data spans less than twice the declared holdout, or has no time."""


def prepare(context: Context, tables: Tables, run: Run) -> Prepared:
    """Everything a training needs, with its rows written to the run's folder."""
    table = tables.dataset
    contract = ingest(context, table)
    with contextlib.suppress(Unavailable):  # while no shipper runs, what was shipped before is all there is
        journals.ship(context)
    feedback.append(context, tables, contract)
    written = record(context, table)
    time = next((column.name for column in contract.of(Role.time)), None)
    rows = table.read(start=run.window_from if time else None, end=None, time=time)
    target = contract.target
    rows = _unspoilt(context, run, rows.filter(pl.col(target.name).is_not_null()), time)
    if rows.is_empty():
        raise InvalidData(
            f"there is no row with a value of '{target.name}' from {run.window_from:%Y-%m-%d} on; nothing to train on"
        )
    training, held_out, cut_at = split(rows, run, time, context.project.gates.holdout)
    if training.is_empty():
        raise InvalidData(
            f"there is no row before {cut_at:%Y-%m-%d %H:%M}, where the held-out rows begin; nothing to train on"
        )
    folder = context.folder.run(run.id)
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in contract.names if name in training.columns]
    task = context.project.task or infer_task(contract, training)
    if task == "classification":
        check_classes(contract.target, training[contract.target.name])
    inputs = {
        "rows": _write(training.select(names), folder / "rows.arrow"),
        "held_out": _write(held_out.select(names), folder / "held_out.arrow"),
        "contract": hashlib.sha256(repr(contract.columns).encode()).hexdigest(),
        "task": task,
    }
    spec = TrainSpec(
        project=context.root,
        entry=run.entry,
        params=run.params,
        rows=folder / "rows.arrow",
        held_out=folder / "held_out.arrow" if not held_out.is_empty() else None,
        contract=contract,
        task=task,
        folder=folder,
        created=context.clock.now(),
        seed=SEED,
        threads=THREADS,
        pickle=context.project.serve.pickle,
        meta={"run": run.id, "project": run.project, "dataset": written.number, "dataset_digest": written.digest},
    )
    parts = key_parts(
        code=closure(context.root, run.entry),
        entry=run.entry,
        params=run.params,
        inputs=inputs,
        environment=environment(THREADS),
        seed=SEED,
    )
    write_spec(spec)
    first = _first_moment(training, time) or run.window_from
    return Prepared(spec, parts, written.number, max(run.window_from, first), cut_at)


def _unspoilt(context: Context, run: Run, rows: pl.DataFrame, time: str | None) -> pl.DataFrame:
    """Without what an upstream fault spoilt; a person may train on an open one's rows: they may be the new normal."""
    with context.store.read() as tx:
        known = incidents.faults(tx, run.project)
    faults = [one for one in known if one.closed_at is not None or run.purpose is not Purpose.manual]
    mask = quarantine.spoilt(rows, faults, time)
    if mask.any():
        causes = "; ".join(
            f"{one.id}: {one.cause['feature']} in {one.cause['slice']}" for one in faults if one.cause is not None
        )
        with context.store.begin() as tx:
            reason = f"{mask.sum()} of {rows.height} rows are left out of this training, an input was broken in them ({causes})"
            said = {event.kind for event in events.about(tx, run.project, run.id)}
            if "run.quarantine" not in said:  # else by an earlier attempt
                tx.record("run.quarantine", run.id, project=run.project, actor=context.actor, reason=reason)
    return rows.filter(~mask)


def ingest(context: Context, table: Datasets) -> Contract:
    """Read the source if it changed, under the contract; the contract is inferred once and then kept in a file."""
    project = context.project
    path = context.root / CONTRACT
    key = f"source/{project.name}"
    mark = _mark(context, path)
    with context.store.read() as tx:
        unchanged = mark is not None and meta.get(tx, key) == mark
    if unchanged and path.exists() and table.newest() is not None:
        return agreed(contract_io.read(path), context)
    frame = sources.read_source(context.root, project.data.source)
    contract = _contract(context, path, frame)
    enforced = enforce(frame, contract)
    table.ingest_source(enforced.frame, contract=contract)
    record(context, table)
    with context.store.begin() as tx:
        if mark is not None:
            meta.put(tx, key, _mark(context, path) or mark)
        if enforced.warnings:
            told = ", ".join(f"{name}: {count} rows" for name, count in sorted(enforced.warnings.items()))
            tx.record(
                "contract.warn",
                CONTRACT,
                project=project.name,
                actor=context.actor,
                reason=f"outside what was seen before: {told}",
            )
    return contract


def _mark(context: Context, contract: Path) -> str | None:
    """What stays the same while neither the source nor the contract changes; None where that cannot be told."""
    source = sources.fingerprint(context.root, context.project.data.source)
    if source is None:
        return None
    rules = contract_io.read_bytes(contract) if contract.exists() else b""
    return f"{source} {hashlib.sha256(rules).hexdigest()}"


def record(context: Context, table: Datasets) -> Written:
    """Confirm the table's newest version in the database; one written just before a crash is confirmed now."""
    newest = table.newest()
    if newest is None:
        raise InvalidData(f"the source {context.project.data.source} gave no rows; nothing to train on")
    with context.store.begin() as tx:
        datasets.record(
            tx,
            context.project.name,
            number=newest.number,
            digest=newest.digest,
            count=newest.rows,
            origin=newest.origin,
            delta_version=newest.delta_version,
            actor=context.actor,
            reason=f"dataset version {newest.number}: {newest.rows} rows, changed by {newest.origin}",
        )
    return newest


def _contract(context: Context, path: Path, frame: pl.DataFrame) -> Contract:
    declared, data = context.project.contract, context.project.data
    if path.exists():
        return agreed(contract_io.read(path), context)
    if not declared.infer:
        raise InvalidData(
            f"there is no {CONTRACT} and the project file says contract: {{infer: false}}; write one or let it be inferred"
        )
    contract = contract_infer.infer(
        frame,
        target=data.target,
        time=data.time,
        entity=data.entity,
        personal=declared.personal,
        unknown_columns=declared.unknown_columns,
    )
    contract_io.write(path, contract)
    with context.store.begin() as tx:
        reason = (
            f"inferred from {frame.height} rows and written to {CONTRACT}; review it and keep it under version control"
        )
        tx.record("contract.infer", CONTRACT, project=context.project.name, actor=context.actor, reason=reason)
    return contract


def agreed(contract: Contract, context: Context) -> Contract:
    """The contract, provided that its roles are those of the project file."""
    data = context.project.data
    for role, named in ((Role.target, data.target), (Role.time, data.time), (Role.entity, data.entity)):
        found = next((column.name for column in contract.of(role)), None)
        if found != named:
            raise InvalidData(
                f"trueline.yaml names {named or 'no column'} as {role}, {CONTRACT} has {found or 'none'}; "
                f"correct one of them, or delete {CONTRACT} to have it inferred again"
            )
    hidden = set(context.project.contract.personal) - {column.name for column in contract.columns if column.personal}
    if hidden:
        raise InvalidData(
            f"trueline.yaml names {', '.join(sorted(hidden))} as personal, {CONTRACT} does not; "
            f"write `personal: true` there, or delete {CONTRACT} to have it inferred again"
        )
    return replace(contract, unknown_columns=context.project.contract.unknown_columns)


def split(
    rows: pl.DataFrame, run: Run, time: str | None, holdout: timedelta
) -> tuple[pl.DataFrame, pl.DataFrame, datetime]:
    """Training rows, held-out rows, and the moment between them. A refit holds nothing out: live days judge it."""
    if time is None:
        cut = rows.height if run.purpose is not Purpose.manual else int(rows.height * (1 - HELD_OUT_SHARE))
        return rows[:cut], rows[cut:], run.cut_at
    cut_at = run.cut_at
    if run.purpose is Purpose.manual:
        cut_at = cut_of(_first_moment(rows, time), _last_moment(rows, time), run.cut_at, holdout)
    moment = pl.lit(cut_at)
    return rows.filter(pl.col(time) < moment), rows.filter(pl.col(time) >= moment), cut_at


def cut_of(first: datetime | None, last: datetime | None, asked: datetime, holdout: timedelta) -> datetime:
    """Where the held-out rows of a manual run begin: so far before the newest row, or now, whichever is earlier."""
    if first is None or last is None:
        return asked
    span = last - first
    kept = holdout if span >= 2 * holdout else span * HELD_OUT_SHARE
    return min(asked, last - kept)


def _first_moment(rows: pl.DataFrame, time: str | None) -> datetime | None:
    return None if time is None else _aware(rows[time].min())


def _last_moment(rows: pl.DataFrame, time: str) -> datetime | None:
    return _aware(rows[time].max())


def _aware(moment: Any) -> datetime | None:
    if not isinstance(moment, datetime):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def infer_task(contract: Contract, rows: pl.DataFrame) -> str:
    """A target of two values is a classification, everything numeric else a regression."""
    target = contract.target
    if rows[target.name].n_unique() == 2:
        return "classification"
    if target.kind in (Kind.string, Kind.boolean, Kind.datetime):
        raise InvalidData(
            f"the target '{target.name}' is {target.kind} with {rows[target.name].n_unique()} values; "
            "a regression needs numbers, a classification two values"
        )
    return "regression"


def check_classes(target: Column, values: pl.Series) -> None:
    """A probability is that of 1, so numbers have to be 0 and 1; of two texts, or of false and true, the later is meant."""
    if target.kind not in (Kind.integer, Kind.float32, Kind.float64):
        return
    others = values.filter((values != 0) & (values != 1))
    if not others.is_empty():
        raise InvalidData(
            f"the target '{target.name}' has the value {others[0]:g}; a classification's are 0 and 1, false and true, or "
            "two texts: write it so, or set `task: regression` in trueline.yaml"
        )


def _write(rows: pl.DataFrame, path: Path) -> str:
    """Write rows as Arrow and give the digest of exactly those bytes: what is trained on is what is in the key."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")  # a slow worker that lost the run writes beside its successor
    rows.rechunk().write_ipc(draft)
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    draft.replace(path)
    return digest
