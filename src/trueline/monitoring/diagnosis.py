"""The worker's look behind a block's losses: earlier champions scored on its rows, slices profiled, faults looked for.

All of it happens off the hot path, from the journalled features: any version can be loaded and asked what it would
have said. What leaves here is small: the day's profile, ranked suspects when a slice is shown to suffer, and, while a fault
is open, whether it is over.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trueline.control import artefacts, blocks, incidents, runs
from trueline.control.context import Context
from trueline.data.labels import resolve
from trueline.data.predictions import features
from trueline.data.tables import Tables
from trueline.domain.contracts import Column
from trueline.domain.incidents import Incident
from trueline.domain.routes import Arm
from trueline.domain.versions import Version
from trueline.errors import TruelineError
from trueline.monitoring import faults, profiles, repair, scenes, shifts, summaries
from trueline.monitoring.faults import FaultPolicy
from trueline.monitoring.profiles import SERVED, Floats, Profile
from trueline.monitoring.shifts import REMEMBERED, ShiftPolicy
from trueline.packaging.executors import Executor, load
from trueline.store.engine import Tx

DAY = timedelta(days=1)
LABEL = "_label"
ID = "_prediction_id"
TRIED_ON = 4
"""Days of rows that a suspect is tried on."""


_PROFILES: dict[tuple[str, str, str], Profile] = {}
"""By state folder, project and day; as many as are remembered."""


@dataclass(frozen=True)
class Answers:
    """A day's answered rows: features typed by the versions that ask for them, label (null: none yet), id."""

    rows: pl.DataFrame
    columns: tuple[Column, ...]  # of the champion's inputs


def policy_of(context: Context) -> ShiftPolicy:
    """The slices' half of the declared budget of false alarms; the total's is the other half."""
    declared = context.project.monitor
    return ShiftPolicy(days_per_false_alarm=2 * (declared.false_alarms / DAY), loss=declared.loss)


def executor(context: Context, version: Version) -> Executor:
    """A version as a server would load it, kept for the next day."""
    return _loaded(artefacts.model(context, version), version.digest)


@lru_cache(maxsize=16)
def _loaded(folder: Path, digest: str) -> Executor:
    return load(folder, digest)


def answers(context: Context, predictions: pl.DataFrame, labels: pl.DataFrame, versions: list[Version]) -> Answers:
    """The answered rows with every column that one of these versions reads; the first one is the champion."""
    signatures = [executor(context, version).signature for version in versions]
    columns = {column.name: column for signature in reversed(signatures) for column in signature.inputs}
    served = predictions.filter((pl.col("arm") != Arm.shadow) & pl.col("features").is_not_null())
    truth = labels.select(pl.col("prediction_id").alias(ID), pl.col("value").alias(LABEL))
    rows = features(served, tuple(columns.values())).join(truth, on=ID, how="left", maintain_order="left")
    return Answers(rows, signatures[0].inputs)


def losses_of(model: Executor, rows: pl.DataFrame, task: str) -> Floats:
    """The loss of each row; NaN where there is no label yet."""
    if rows.is_empty():
        return np.zeros(0)
    said = model.predict({name: rows[name].to_list() for name in model.signature.names})
    truth = rows[LABEL].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.asarray(np.abs(said - truth) if task == "regression" else (said - truth) ** 2, dtype=np.float64)


def rescored(context: Context, found: Answers, versions: list[Version]) -> pl.DataFrame:
    """What earlier champions would have lost on these rows, as `summaries.joined` has it for those that scored."""
    labelled = found.rows.filter(pl.col(LABEL).is_not_null())
    parts = []
    for version in versions:
        try:
            values = losses_of(executor(context, version), labelled, version.task)
        except (TruelineError, RuntimeError, ValueError):
            continue  # a model that cannot be had or asked any more does not compete
        parts.append(summaries.beside(labelled[ID], version.number, values))
    return pl.concat(parts) if parts else summaries.beside(pl.Series(ID, [], dtype=pl.String), 0, np.zeros(0))


def quarantined(found: Answers, fault: Incident | None) -> list[str]:
    """The rows that an open fault spoils: evidence about models leaves them out."""
    if fault is None or not fault.cause:
        return []
    name = str(fault.cause["slice"])
    column = name.partition("=")[0]
    if name != profiles.ALL and column not in found.rows.columns:
        return []
    mine = profiles.members(found.rows, name)
    return [str(one) for one in found.rows[ID].filter(pl.Series(mine)).to_list()]


def of_day(found: Answers, scores: pl.DataFrame) -> Profile:
    """The day's profile, with the losses of what was served and of each version that scored."""
    order = found.rows.select(pl.col(ID).alias("prediction_id"))
    losses = {SERVED: _aligned(order, scores.filter("served"))}
    for version in scores["scored_by"].unique().sort().to_list():
        losses[str(version)] = _aligned(order, scores.filter(pl.col("scored_by") == version))
    return profiles.profile(found.rows, found.columns, losses)


def _aligned(order: pl.DataFrame, scores: pl.DataFrame) -> Floats:
    own = scores.unique("prediction_id", keep="first").select("prediction_id", "loss")
    joined = order.join(own, on="prediction_id", how="left", maintain_order="left")["loss"]
    return np.asarray(joined.fill_null(float("nan")).to_numpy(), dtype=np.float64)


def look(context: Context, opened: Tables, day: str, today: Profile, champion: Version) -> dict[str, Any]:
    """Ranked suspects of a harm that is shown, or how an open fault is doing."""
    with context.store.read() as tx:
        past = _past(tx, context, day)
        known = incidents.faults(tx, context.project.name)
    fault = next((one for one in known if one.closed_at is None), None)
    if fault is not None and fault.cause:
        since = [profile for when, profile in past if when >= fault.cause["since"]]
        return {"recovery": asdict(faults.recovery([*since, today], fault.cause, FaultPolicy()))}
    healthy = [profile for when, profile in past if not _faulty(when, known)]
    series = [*healthy[-REMEMBERED:], today]
    policy = policy_of(context)
    harmed = shifts.harms(series, policy)
    if not harmed:
        return {}
    jumps = shifts.inputs(series, harmed, policy)
    told = {"harmed": [asdict(harm) for harm in harmed[:5]]}
    if not jumps:
        return told
    first = date.fromisoformat(day) - timedelta(days=min(TRIED_ON, *(harm.days for harm in harmed)) - 1)
    found = _answers_since(context, opened, first.isoformat(), day, champion)
    model = executor(context, champion)
    ranked = repair.suspects(
        found.rows, found.columns, series, harmed, jumps, lambda rows: losses_of(model, rows, champion.task)
    )
    days = [*(when for when, _ in past if not _faulty(when, known)), day]
    suspects = [{**one, "since": days[-int(one["days"])]} for one in faults.plain(ranked)]
    return {**told, "suspects": suspects}


def _past(tx: Tx, context: Context, day: str) -> list[tuple[str, Profile]]:
    """The days remembered before this one. A day's profile never changes, so it is read and decoded once."""
    project, where = context.project.name, str(context.folder.root)
    days = blocks.profile_days(tx, project, day)
    for known in [key for key in _PROFILES if key[:2] == (where, project) and key[2] not in days]:
        del _PROFILES[known]
    for one in days:
        if (where, project, one) not in _PROFILES:
            _PROFILES[where, project, one] = blocks.profile(tx, project, one)
    return [(one, _PROFILES[where, project, one]) for one in days]


def _faulty(day: str, known: list[Incident]) -> bool:
    """Whether a day belongs to an earlier fault: it is no pool to tell the next one from."""
    return any(
        one.cause and one.cause["since"] <= day < (one.cause.get("until") or one.cause["since"]) for one in known
    )


def _answers_since(context: Context, opened: Tables, first: str, last: str, champion: Version) -> Answers:
    after = timedelta(days=2) + context.project.monitor.labels.expect_after
    labels = resolve(opened.labels.read(first, (date.fromisoformat(last) + after).isoformat()))
    return answers(context, opened.predictions.read_days(first, last), labels.labels, [champion])


def earlier_versions(tx: Tx, project: str, day: str) -> list[Version]:
    """The earlier champions that compete on a day, fixed before it began."""
    moment = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return [runs.version(tx, project, number) for number in scenes.contenders(tx, project, moment)]
