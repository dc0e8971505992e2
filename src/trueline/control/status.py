"""The state of a project as a person would ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from trueline.control import blocks, datasets, endpoints
from trueline.domain.gates import GateState
from trueline.domain.incidents import Incident, IncidentState
from trueline.domain.releases import Release, ReleaseState
from trueline.domain.routes import Route
from trueline.domain.runs import RunState
from trueline.domain.versions import Version, VersionState
from trueline.store import outbox, rows, tables
from trueline.store.engine import Tx


@dataclass(frozen=True)
class TrackingBacklog:
    """What the tracking store was not told yet, and why not, where it was tried."""

    waiting: int
    error: str | None


@dataclass(frozen=True)
class Status:
    project: str
    sentence: str
    now: datetime
    idle: bool
    replaying: bool
    champion: int | None
    champion_since: datetime | None
    epoch: int
    acknowledged: int
    hold: bool
    routes: tuple[Route, ...]
    release: Release | None
    queued_runs: int
    running_runs: int
    open_gates: int
    incidents: tuple[Incident, ...]
    freshness: Any
    dataset: int | None
    predictions: int
    labels: int
    last_event: int
    unknown_labels: int = 0  # predictions that labels of the last days name, and that are not known
    target: str | None = None
    tracking: TrackingBacklog | None = None
    undelivered: str | None = None  # why the routes are not on every server yet, where it was tried
    recording: tuple[Any, ...] = ()  # servers of this machine that cannot record, or could not before


def take(tx: Tx, project: str, *, idle: bool, replaying: bool, freshness: Any, target: str | None = None) -> Status:
    """Everything on one page, from one snapshot."""
    endpoint = endpoints.get(tx, project)
    release = endpoints.live_release(tx, project)
    incidents = rows.find(
        tx, Incident, tables.incidents.c.project == project, tables.incidents.c.state != IncidentState.closed
    )
    totals = blocks.monitor_state(tx, project).get("totals", {})
    dataset = datasets.newest(tx, project)
    queued = _count(tx, tables.runs, project, RunState.queued)
    running = _count(tx, tables.runs, project, RunState.running)
    last = tx.execute(select(func.max(tables.events.c.id))).scalar() or 0
    return Status(
        project=project,
        sentence=_sentence(
            endpoint.champion, release, incidents, _waiting(tx, project, endpoint.champion), queued + running
        ),
        now=tx.now,
        idle=idle,
        replaying=replaying,
        champion=endpoint.champion,
        champion_since=endpoint.champion_since,
        epoch=endpoint.table.epoch,
        acknowledged=endpoint.acknowledged,
        hold=endpoint.table.hold,
        routes=endpoint.table.routes,
        release=release,
        queued_runs=queued,
        running_runs=running,
        open_gates=_count(tx, tables.gates, project, GateState.pending, GateState.evaluating),
        incidents=tuple(incidents),
        freshness=freshness,
        dataset=dataset.number if dataset else None,
        predictions=int(totals.get("predictions", 0)),
        labels=int(totals.get("labels", 0)),
        last_event=int(last),
        unknown_labels=int(totals.get("unknown", 0)),
        target=target,
        tracking=_tracking(tx, project),
        undelivered=outbox.newest_error(tx, project, "route"),
    )


def _tracking(tx: Tx, project: str) -> TrackingBacklog:
    kinds = ("tracking",)
    return TrackingBacklog(outbox.count_open(tx, project, kinds), outbox.last_error(tx, project, kinds))


def _count(tx: Tx, table: Any, project: str, *states: Any) -> int:
    statement = select(func.count()).select_from(table).where(table.c.project == project, table.c.state.in_(states))
    return int(tx.execute(statement).scalar_one())


def _waiting(tx: Tx, project: str, champion: int | None) -> str | None:
    """The newest version that waits for approvals to come after the champion, as a sentence."""
    box = tables.versions
    asked = (box.c.state == VersionState.candidate, box.c.waiting.is_not(None), box.c.number > (champion or 0))
    newest = rows.first(tx, Version, box.c.project == project, *asked, newest=True)
    return None if newest is None else f"version {newest.number} {newest.waiting}"


def _sentence(
    champion: int | None, release: Release | None, incidents: list[Incident], waiting: str | None, working: int
) -> str:
    if champion is None:
        next_step = waiting or ("a run is under way" if working else "start with: trueline run")
        return f"nothing serves yet; {next_step}"
    parts = [f"version {champion} serves"]
    if release is not None and release.state is ReleaseState.canary:
        parts.append(f"version {release.version} is canary with {release.evidence.get('weight', 0):.0%} of requests")
    elif release is not None and release.state is ReleaseState.shadow:
        parts.append(f"version {release.version} scores in shadow")
    elif release is not None:
        parts.append("its release is still watched")
    if waiting is not None:
        parts.append(waiting)
    parts += [f"{incident.id} is {incident.state}: {incident.reason}" for incident in incidents]
    return "; ".join(parts)
