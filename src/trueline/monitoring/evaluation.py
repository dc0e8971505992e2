"""The worker's part: one due block, from tables to evidence.

First every journal is shipped up to now (so nothing of the day is missing), then the day's predictions meet their
labels, and what is kept of it is sums and means. Labels that come later correct later reports, never this verdict.

Labels since that day whose prediction nobody made, or nobody has shipped yet, are counted (`unknown`): each block counts anew, so
one whose prediction turns up is not among them any more.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import msgspec
import polars as pl
from sqlalchemy import select

from trueline.control import blocks, endpoints, incidents, journals, runs, work
from trueline.control.context import Context
from trueline.control.work import Kind
from trueline.data.labels import resolve
from trueline.data.tables import Tables
from trueline.domain.blocks import BLOCKS, Block, BlockEvent, BlockState
from trueline.domain.figures import figure
from trueline.domain.releases import Release
from trueline.domain.routes import Arm
from trueline.errors import TruelineError
from trueline.monitoring import diagnosis, drift, summaries
from trueline.monitoring.profiles import Profile
from trueline.monitoring.shifts import REMEMBERED
from trueline.stats.arms import ArmsDesign, observe
from trueline.store import rows, tables
from trueline.store.engine import Tx

LATE = timedelta(days=3)
"""How much later than expected most labels come at most: their predictions are looked for in those days first."""

WORK = Kind(
    tables.blocks,
    BLOCKS,
    claim=BlockEvent.claim,
    requeue=BlockEvent.requeue,
    waiting=BlockState.due,
    busy=BlockState.evaluating,
    retry=timedelta(seconds=1),
)


def work_one(context: Context, opened: Tables) -> bool:
    """Evaluate the oldest due block, if there is one."""
    claimed = work.claim(context, WORK)
    if claimed is None:
        return False
    with context.store.read() as tx:
        block = rows.get(tx, Block, claimed.id)
    try:
        with work.renewed(context, WORK, claimed):
            journals.ship(context)
            evidence, profile = evaluate(context, opened, block.day)
    except TruelineError as problem:
        work.requeue(context, WORK, claimed, str(problem))
        return True
    with context.store.begin() as tx:
        blocks.evaluated(tx, block, claimed.fence, evidence, actor=context.actor, reason=sentence(block.day, evidence))
        if profile:
            blocks.keep_profile(tx, block.project, block.day, profile, keep=REMEMBERED)
    return True


def evaluate(context: Context, opened: Tables, day: str) -> tuple[dict[str, Any], Profile]:
    """The evidence of one event-time day, and its profile."""
    predictions = opened.predictions.read_day(day)
    after = context.project.monitor.labels.expect_after
    through = date.fromisoformat(day) + timedelta(days=2) + after
    arrived = opened.labels.read(day, through.isoformat())
    labels = resolve(arrived)
    near = date.fromisoformat(day) - LATE - after
    with context.store.read() as tx:
        champion = endpoints.get(tx, context.project.name).champion
        version = runs.version(tx, context.project.name, champion) if champion is not None else None
        designs = _designs(tx, context, predictions)
        counted = {name: _counted(tx, name) for name in designs} if context.project.release.stick_to else {}
        earlier = diagnosis.earlier_versions(tx, context.project.name, day)
        fault = incidents.open_fault(tx, context.project.name)
    task = version.task if version is not None else "regression"
    scores = summaries.joined(predictions, labels.labels, task)
    counts = {"duplicates": labels.duplicates, "corrections": labels.corrections}
    evidence: dict[str, Any] = {
        "coverage": summaries.coverage(predictions, counts, scores.filter("served").height),
        "unknown": opened.predictions.unknown(arrived["prediction_id"], near.isoformat()).len(),
        "drift": drift.compare(predictions, version) if version is not None else {},
    }
    profile: Profile = {}
    only_asked: set[int] = set()
    if version is not None and scores.height:
        found = diagnosis.answers(context, predictions, labels.labels, [version, *earlier])
        profile = diagnosis.of_day(found, scores)
        evidence |= diagnosis.look(context, opened, day, profile, version)
        spoilt = diagnosis.quarantined(found, fault)
        asked = diagnosis.rescored(context, found, [one for one in earlier if one.number != version.number])
        only_asked = set(asked["scored_by"].to_list()) - set(scores["scored_by"].to_list())
        scores = pl.concat([scores, asked], how="diagonal_relaxed").filter(~pl.col("prediction_id").is_in(spoilt))
        evidence["quarantined"] = len(spoilt)
    served = scores.filter("served")
    arms = {name: _arms(served, name, *design, counted.get(name)) for name, design in designs.items()}
    return {**summaries.losses(scores, only_asked), **evidence, "arms": arms}, profile


def _designs(tx: Tx, context: Context, predictions: pl.DataFrame) -> dict[str, tuple[int, ArmsDesign, float]]:
    """The releases that had requests this day, each with its version, its frozen design and its loss scale."""
    found: dict[str, tuple[int, ArmsDesign, float]] = {}
    for name in predictions["release"].drop_nulls().unique().sort():
        release = rows.first(tx, Release, tables.releases.c.id == str(name))
        kept = (release.evidence.get("kept") or {}) if release is not None else {}
        if release is not None and kept.get("usual") and kept.get("scale"):
            tolerance = context.project.release.guards.loss
            scale = float(kept["scale"])
            found[release.id] = (release.version, ArmsDesign.of(tolerance, float(kept["usual"]) / scale), scale)
    return found


def _counted(tx: Tx, release: str) -> list[str]:
    """The requests that count in a release that sticks to a key: each user's first, as the releases controller saw it."""
    box = tables.units
    return [str(row.request) for row in tx.execute(select(box.c.request).where(box.c.release == release))]


def _arms(
    served: pl.DataFrame, release: str, version: int, design: ArmsDesign, scale: float, counted: list[str] | None
) -> dict[str, Any]:
    """What the randomised rows of a release say of its loss; with sticky routing, each user's first request only."""
    randomised = pl.col("arm").is_in([Arm.champion, Arm.canary]) & (pl.col("weight") < 1)
    arms = served.filter((pl.col("release") == release) & randomised)
    if counted is not None:
        arms = arms.filter(pl.col("prediction_id").str.replace(r"-\d+$", "").is_in(counted))
    canary = (arms["version"] == version).to_list()
    shares = [round(w if mine else 1 - w, 9) for w, mine in zip(arms["weight"].to_list(), canary, strict=True)]
    evidence = observe(design, canary, (arms["loss"] / scale).to_list(), shares)
    splits = [
        {
            "share": share,
            "canary": sum(mine for mine, at in zip(canary, shares, strict=True) if at == share),
            "champion": sum(not mine for mine, at in zip(canary, shares, strict=True) if at == share),
        }
        for share in sorted(set(shares))
    ]
    return {"evidence": msgspec.to_builtins(evidence), "splits": splits}


def sentence(day: str, evidence: dict[str, Any]) -> str:
    served, coverage = evidence["served"], evidence["coverage"]
    unknown = evidence.get("unknown")
    astray = f"; labels name {unknown} predictions that are not known" if unknown else ""
    if not served["n"]:
        return f"{day}: {coverage['predictions']} predictions, none labelled{astray}"
    labelled = f"{coverage['labelled']} of {coverage['predictions']} predictions labelled"
    return f"{day}: {labelled}, mean loss {figure(served['loss'])}{astray}"
