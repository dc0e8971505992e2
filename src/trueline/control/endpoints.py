"""The endpoint: which versions answer, at which weight. One route table per project, each change a new epoch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update

from trueline.domain.releases import LIVE, Release, ReleaseState
from trueline.domain.routes import Arm, Route, RouteTable, decode, dumps, encode
from trueline.domain.runs import Purpose
from trueline.domain.versions import Version, VersionState
from trueline.errors import Conflict
from trueline.settings import StateFolder
from trueline.store import meta, outbox, rows, tables
from trueline.store.engine import Tx

REHEARSED = 4
"""How many of the last rehearsal refits score in shadow: the freshest, and one a few refits older than it."""

KNOWN_HOLDS = 16
"""How many holds are remembered: a server that was away may come back with one that was ended long ago."""


@dataclass(frozen=True)
class Endpoint:
    table: RouteTable
    acknowledged: int
    champion: int | None
    champion_since: datetime | None


def get(tx: Tx, project: str) -> Endpoint:
    """The endpoint in force; an empty one at epoch 0 before the first release."""
    box = tables.endpoints
    row = tx.execute(
        select(box.c.routes, box.c.acknowledged, box.c.champion, box.c.champion_since).where(box.c.project == project)
    ).first()
    if row is None:
        return Endpoint(RouteTable(epoch=0, model=project), 0, None, None)
    return Endpoint(decode(row.routes), row.acknowledged, row.champion, row.champion_since)


def crown(tx: Tx, project: str, version: int) -> None:
    """Make a version the champion; the caller routes afterwards."""
    values = {"champion": version, "champion_since": tx.now}
    changed = tx.execute(update(tables.endpoints).where(tables.endpoints.c.project == project).values(**values))
    if changed.rowcount == 0:
        empty = encode(RouteTable(epoch=0, model=project))
        row = {"project": project, "epoch": 0, "routes": empty, "acknowledged": 0, **values}
        tx.execute(insert(tables.endpoints), row)


def live_release(tx: Tx, project: str) -> Release | None:
    box = tables.releases
    return rows.first(tx, Release, box.c.project == project, box.c.state.in_(LIVE))


def shadows(tx: Tx, project: str) -> list[Version]:
    """The last rehearsal refits, newest first."""
    box = tables.versions
    return rows.find(
        tx,
        Version,
        box.c.project == project,
        box.c.purpose.in_((Purpose.rehearsal, Purpose.alert)),
        box.c.state != VersionState.rejected,
        newest=True,
        limit=REHEARSED,
    )


def route(tx: Tx, project: str, folder: StateFolder, stick_to: str | None, *, actor: str, reason: str) -> int:
    """Write the route table that champion, live release and shadows call for; returns its epoch.

    Nothing happens when the routes are what they were, or while a person holds the endpoint on the server.
    """
    endpoint = get(tx, project)
    if endpoint.champion is None or endpoint.table.hold:
        return endpoint.table.epoch
    release = live_release(tx, project)
    table = RouteTable(
        epoch=endpoint.table.epoch + 1,
        model=project,
        routes=_routes(tx, project, folder, endpoint.champion, release),
        release=release.id if release and release.state is not ReleaseState.promoted else None,
        salt=release.id if release else "",
        stick_to=stick_to,
    )
    if (table.routes, table.release) == (endpoint.table.routes, endpoint.table.release):
        return endpoint.table.epoch
    box = tables.endpoints
    same = (box.c.project == project) & (box.c.epoch == endpoint.table.epoch)
    if tx.execute(update(box).where(same).values(epoch=table.epoch, routes=encode(table))).rowcount != 1:
        raise Conflict(f"the routes of {project} were changed by somebody else; this attempt changes nothing")
    shares = {f"v{r.version}": f"{r.arm} {r.weight:.0%}" if r.weight else str(r.arm) for r in table.routes}
    tx.record(
        "route.set", f"epoch-{table.epoch}", project=project, actor=actor, reason=reason, detail={"routes": shares}
    )
    outbox.put(tx, project, "route", f"route/{project}/{table.epoch}", {"project": project, "epoch": table.epoch})
    return table.epoch


def _routes(tx: Tx, project: str, folder: StateFolder, champion: int, release: Release | None) -> tuple[Route, ...]:
    weights: dict[int, tuple[Arm, float]] = {champion: (Arm.champion, 1.0)}
    if release is not None and release.state is ReleaseState.canary:
        share = float(release.evidence["weight"])
        weights[champion] = (Arm.champion, 1 - share)
        weights[release.version] = (Arm.canary, share)
    elif release is not None:
        scored = release.previous if release.state is ReleaseState.promoted else release.version
        if scored is not None:
            weights.setdefault(scored, (Arm.shadow, 0.0))
    for version in shadows(tx, project):
        weights.setdefault(version.number, (Arm.shadow, 0.0))
    known = {
        v.number: v
        for v in rows.find(tx, Version, tables.versions.c.project == project, tables.versions.c.number.in_(weights))
    }
    return tuple(
        Route(
            number, arm, weight, str(model_folder(folder, known[number]).relative_to(folder.root)), known[number].digest
        )
        for number, (arm, weight) in sorted(weights.items())
    )


def model_folder(folder: StateFolder, version: Version) -> Any:
    """Where a version's packaged model lies: in its run's folder, written once, never moved."""
    return folder.run(version.run) / "model"


def acknowledge(tx: Tx, project: str, epoch: int) -> None:
    """Every serving process has this epoch (or a later one) in force."""
    box = tables.endpoints
    tx.execute(update(box).where(box.c.project == project, box.c.acknowledged < epoch).values(acknowledged=epoch))


def import_hold(tx: Tx, project: str, table: RouteTable) -> None:
    """Take over a table that a person set on the server itself, as an event; it is not overwritten until released.

    The person wins also over a table that control had decided without having heard of it: then their routes get the
    epoch after it. `meta` remembers which holds are known, as the server has them and as control passes them on, so
    that a later table may end them. The other servers need not have heard of it: it is delivered, then acknowledged.
    """
    endpoint = get(tx, project)
    if table.epoch <= endpoint.table.epoch and table.routes == endpoint.table.routes and endpoint.table.hold:
        _remember(tx, project, table)
        return
    held = replace(table, epoch=max(table.epoch, endpoint.table.epoch + 1))
    _remember(tx, project, table, held)
    outbox.put(tx, project, "route", f"route/{project}/{held.epoch}", {"project": project, "epoch": held.epoch})
    champion = held.champion.version if held.champion else endpoint.champion
    box = tables.endpoints
    tx.execute(
        update(box)
        .where(box.c.project == project)
        .values(epoch=held.epoch, routes=encode(held), champion=champion, champion_since=tx.now)
    )
    tx.record(
        "route.hold",
        f"epoch-{held.epoch}",
        project=project,
        actor="server",
        reason=f"a person sent all traffic to version {champion} on the server itself; held until the next release",
        detail={"version": champion},
    )


def knows_contained(tx: Tx, project: str, digest: str) -> bool:
    """Whether it is known that this artefact runs in a process of its own."""
    return meta.get(tx, _contained_key(project, digest)) is not None


def import_contained(tx: Tx, project: str, version: int, digest: str, reason: str, replica: str) -> None:
    """Take note, as an event, that a server keeps a version apart because one of its processes died of it."""
    if knows_contained(tx, project, digest):
        return
    meta.put(tx, _contained_key(project, digest), reason)
    tx.record(
        "version.contain",
        f"{project}/v{version}",
        project=project,
        actor="server",
        reason=f"{reason}; the version runs in a process of its own on that machine from now on",
        detail={"version": version, "digest": digest, "replica": replica},
    )


def _contained_key(project: str, digest: str) -> str:
    return f"contained/{project}/{digest}"


def hold_key(project: str) -> str:
    return f"hold/{project}"


def mark(table: RouteTable) -> str:
    """What a hold is known by: two people may set two tables of one epoch on two servers."""
    return f"{table.epoch}:{hashlib.sha256(dumps(table).encode()).hexdigest()[:12]}"


def known_holds(tx: Tx, project: str) -> frozenset[str]:
    """The marks of the last holds that were imported."""
    return frozenset(_marks(tx, project))


def _remember(tx: Tx, project: str, *held: RouteTable) -> None:
    marks = dict.fromkeys([*_marks(tx, project), *(mark(table) for table in held)])
    meta.put(tx, hold_key(project), " ".join([*marks][-KNOWN_HOLDS:]))


def _marks(tx: Tx, project: str) -> list[str]:
    return (meta.get(tx, hold_key(project)) or "").split()


def lift_hold(tx: Tx, project: str) -> None:
    """A new release or rollback through control ends a hold."""
    endpoint = get(tx, project)
    if endpoint.table.hold:
        free = {**encode(endpoint.table), "hold": False}
        tx.execute(update(tables.endpoints).where(tables.endpoints.c.project == project).values(routes=free))
