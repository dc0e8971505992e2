"""Releases: asking for one, each of its moves, and rolling back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from trueline.control import endpoints, runs
from trueline.domain.releases import RELEASES, Release, ReleaseEvent, ReleaseState
from trueline.domain.versions import VersionState
from trueline.errors import Conflict, NotAllowed
from trueline.settings import StateFolder
from trueline.store import moves, outbox, rows, tables
from trueline.store.engine import Tx


@dataclass(frozen=True)
class Scene:
    """Where releases of one project happen: what every move needs besides the row."""

    project: str
    folder: StateFolder
    stick_to: str | None


def request(tx: Tx, project: str, version: int, *, vouched: bool, actor: str, reason: str) -> Release:
    """Queue the release of an approved version; an older one still waiting is superseded."""
    asked = runs.version(tx, project, version)
    if asked.state is not VersionState.approved:
        why = (
            f": it {asked.waiting}"
            if asked.waiting
            else "; its gate must pass, or somebody must waive it with a reason"
        )
        raise NotAllowed(f"version {version} is not approved{why}")
    endpoint = endpoints.get(tx, project)
    if endpoint.champion == version:
        raise Conflict(f"version {version} is the champion already")
    live = endpoints.live_release(tx, project)
    if live is not None and live.version == version:
        raise Conflict(f"{live.id} of version {version} is under way already")
    box = tables.releases
    for waiting in rows.find(tx, Release, box.c.project == project, box.c.state == ReleaseState.pending):
        if waiting.version == version:
            raise Conflict(f"{waiting.id} of version {version} is waiting already")
        superseded = f"superseded by version {version} before it began"
        moves.move(
            tx, box, RELEASES, waiting.id, ReleaseEvent.abort, actor=actor, reason=superseded, finished_at=tx.now
        )
    number = moves.number(tx, moves.EVERYWHERE, "release")
    release_id = f"release-{number}"
    values = {
        "id": release_id,
        "number": number,
        "project": project,
        "version": version,
        "previous": endpoint.champion,
        "step": -1,
        "vouched": vouched,
        "evidence": {"weight": 0.0},
        "reason": reason,
        "actor": actor,
        "created_at": tx.now,
        "stage_since": tx.now,
    }
    moves.create(tx, box, RELEASES, values, actor=actor, reason=reason, detail={"version": version})
    return rows.get(tx, Release, release_id)


def abort(tx: Tx, release: Release, *, actor: str, reason: str) -> None:
    """Give a waiting release up."""
    _move(tx, release, ReleaseEvent.abort, actor=actor, reason=reason, finished_at=tx.now)


def begin(
    tx: Tx,
    scene: Scene,
    release: Release,
    *,
    event: ReleaseEvent,
    step: int,
    evidence: dict[str, Any],
    actor: str,
    reason: str,
) -> None:
    """Start a waiting release in its first stage, against the champion of this moment."""
    champion = endpoints.get(tx, scene.project).champion
    _move(
        tx,
        release,
        event,
        actor=actor,
        reason=reason,
        step=step,
        evidence=evidence,
        stage_since=tx.now,
        previous=champion,
    )
    endpoints.lift_hold(tx, scene.project)
    endpoints.route(tx, scene.project, scene.folder, scene.stick_to, actor=actor, reason=reason)
    _tell_tracking(tx, scene.project, "challenger", release.version)


def advance(
    tx: Tx, scene: Scene, release: Release, *, event: ReleaseEvent, step: int, weight: float, actor: str, reason: str
) -> None:
    """The next stage: first canary, or a wider one."""
    evidence = {**_evidence(tx, release), "weight": weight}
    _move(tx, release, event, actor=actor, reason=reason, step=step, evidence=evidence, stage_since=tx.now)
    endpoints.route(tx, scene.project, scene.folder, scene.stick_to, actor=actor, reason=reason)


def promote(tx: Tx, scene: Scene, release: Release, *, actor: str, reason: str) -> None:
    """All traffic to the released version; the one it replaces stays warm and is watched against it."""
    champion = endpoints.get(tx, scene.project).champion
    evidence = {**_evidence(tx, release), "weight": 1.0}
    _move(
        tx,
        release,
        ReleaseEvent.promote,
        actor=actor,
        reason=reason,
        evidence=evidence,
        stage_since=tx.now,
        previous=champion,
    )
    endpoints.crown(tx, scene.project, release.version)
    endpoints.lift_hold(tx, scene.project)
    endpoints.route(tx, scene.project, scene.folder, scene.stick_to, actor=actor, reason=reason)
    _tell_tracking(tx, scene.project, "champion", release.version)
    _tell_tracking(tx, scene.project, "challenger", None)


def roll_back(tx: Tx, scene: Scene, release: Release, *, actor: str, reason: str) -> None:
    """All traffic back to the version that the release set out to replace."""
    if release.previous is None:
        raise Conflict(f"{release.id} was the first release: there is no earlier version to go back to")
    crowned = endpoints.get(tx, scene.project).champion == release.version
    if crowned:
        endpoints.crown(tx, scene.project, release.previous)
    _move(tx, release, ReleaseEvent.roll_back, actor=actor, reason=reason, crowned=crowned, finished_at=tx.now)
    endpoints.lift_hold(tx, scene.project)
    epoch = endpoints.route(tx, scene.project, scene.folder, scene.stick_to, actor=actor, reason=reason)
    _keep(tx, release, rollback_epoch=epoch, rollback_decided=tx.wall.isoformat())
    if crowned:
        _tell_tracking(tx, scene.project, "champion", release.previous)
    _tell_tracking(tx, scene.project, "challenger", None)


def finish(tx: Tx, scene: Scene, release: Release, *, actor: str, reason: str) -> None:
    """End the watch over a promoted release; the version it replaced need not stay warm."""
    _move(tx, release, ReleaseEvent.finish, actor=actor, reason=reason, finished_at=tx.now)
    endpoints.route(tx, scene.project, scene.folder, scene.stick_to, actor=actor, reason=reason)


def keep_evidence(tx: Tx, release: Release, evidence: dict[str, Any], answered: int) -> None:
    """Store accumulated evidence of a live release."""
    box = tables.releases
    tx.execute(update(box).where(box.c.id == release.id).values(evidence=evidence, requests_answered=answered))


def acknowledged(tx: Tx, project: str, epoch: int) -> None:
    """Every server has `epoch` in force: complete the figure of a rollback that waited for it."""
    box = tables.releases
    waiting = rows.find(
        tx, Release, box.c.project == project, box.c.state == ReleaseState.rolled_back, box.c.rollback_ms.is_(None)
    )
    for release in waiting:
        if release.evidence.get("rollback_epoch", epoch + 1) <= epoch:
            took = tx.wall - datetime.fromisoformat(release.evidence["rollback_decided"])
            took_ms = max(0.0, round(took.total_seconds() * 1000, 2))  # a clock that was put back tells nothing
            tx.execute(update(box).where(box.c.id == release.id).values(rollback_ms=took_ms))
            reason = f"every server answers with version {release.previous} again, {took_ms:.0f} ms after the decision"
            detail = {
                "rollback_ms": took_ms,
                "requests_answered": release.requests_answered,
                "version": release.version,
            }
            tx.record("release.restored", release.id, project=project, actor="control", reason=reason, detail=detail)


def _move(
    tx: Tx, release: Release, event: ReleaseEvent, *, actor: str, reason: str, crowned: bool = False, **values: Any
) -> None:
    """`crowned` tells later readers whether a rollback took the crown back or only a canary's share."""
    detail = {
        "version": release.version,
        "from": release.previous,
        "crowned": crowned,
        "requests_answered": release.requests_answered,
    }
    moves.move(tx, tables.releases, RELEASES, release.id, event, actor=actor, reason=reason, detail=detail, **values)


def _evidence(tx: Tx, release: Release) -> dict[str, Any]:
    return dict(tx.execute(select(tables.releases.c.evidence).where(tables.releases.c.id == release.id)).scalar_one())


def _keep(tx: Tx, release: Release, **facts: Any) -> None:
    box = tables.releases
    tx.execute(update(box).where(box.c.id == release.id).values(evidence={**_evidence(tx, release), **facts}))


def _tell_tracking(tx: Tx, project: str, alias: str, version: int | None) -> None:
    number = moves.number(tx, project, "alias")
    payload = {"project": project, "alias": alias, "to": version}
    outbox.put(tx, project, "tracking", f"tracking/{project}/alias/{number}", payload)
