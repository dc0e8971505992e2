"""What goes to a gate by itself: the freshest refit when retraining is shown to help, or an earlier champion.

An earlier champion that is shown to beat both the champion and the freshest refit goes first, and once it serves no refit is
proposed while it keeps that evidence: a season's model is not replaced by one that is shown to be worse. While an
upstream fault is open nothing is proposed, and a version that has learnt a fault's rows never is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from trueline.control import endpoints, gates, incidents, runs
from trueline.control.context import Context
from trueline.domain.gates import Gate
from trueline.domain.releases import Release
from trueline.domain.verdicts import Verdict
from trueline.domain.versions import Version, VersionState
from trueline.monitoring import earlier, rehearsal
from trueline.monitoring.earlier import EarlierPolicy, EarlierReading, EarlierState
from trueline.monitoring.rehearsal import RehearsalState
from trueline.store import rows, tables
from trueline.store.engine import Tx

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Proposal:
    version: int
    vouched_by: dict[str, Any]  # the process that vouches for it, as it stood
    reason: str


def propose(tx: Tx, context: Context, rehearsed: RehearsalState | None, others: EarlierState) -> Proposal | None:
    """The version that a gate should judge now, if any."""
    project = context.project.name
    endpoint = endpoints.get(tx, project)
    if rehearsed is None or endpoint.table.hold or incidents.open_fault(tx, project) is not None:
        return None
    found = earlier.read(others, endpoint.champion, EarlierPolicy())
    if found.version is not None:
        return None if found.serves else _go_back(tx, context, found)
    return _go_on(tx, context, rehearsed)


def ask(tx: Tx, project: str, proposal: Proposal) -> None:
    gates.request(
        tx, project, proposal.version, vouched_by=proposal.vouched_by, actor="rehearsal", reason=proposal.reason
    )


def _go_back(tx: Tx, context: Context, found: EarlierReading) -> Proposal | None:
    """An earlier champion, through its gate anew: sane still, and its features known in time."""
    project, number = context.project.name, found.version or 0
    version = runs.version(tx, project, number)
    live = endpoints.live_release(tx, project)
    under_way = live is not None and live.version == number
    if version.state is not VersionState.approved or under_way or not _cooled(tx, context):
        return None
    known = _newest_gate(tx, project, number)
    if known is not None and tx.now < known.created_at + DAY:
        return None
    vouched_by = {"process": "earlier", "wealth": found.wealth, "needed": found.threshold}
    return Proposal(number, vouched_by, f"re-promote version {number}: {found.reason}")


def _go_on(tx: Tx, context: Context, rehearsed: RehearsalState) -> Proposal | None:
    """The freshest refit that no gate knows yet, when retraining is shown to pay or the champion to be stale."""
    project = context.project.name
    reading = rehearsal.read(rehearsed)
    if not (reading.pays or reading.champion_stale):
        return None
    newest = next(iter(endpoints.shadows(tx, project)), None)
    if newest is None or newest.state is not VersionState.candidate or _tainted(tx, project, newest):
        return None
    known = _newest_gate(tx, project, newest.number)
    undecided = known is not None and known.verdict == Verdict.inconclusive and tx.now >= known.created_at + DAY
    if (known is not None and not undecided) or not _cooled(tx, context):
        return None
    process, wealth = ("freshness", reading.freshness) if reading.pays else ("champion", reading.champion)
    reason = f"refit version {newest.number} goes to its gate: {reading.reason}"
    return Proposal(newest.number, {"process": process, "wealth": wealth}, reason)


def _tainted(tx: Tx, project: str, version: Version) -> bool:
    made = version.created_at
    return incidents.tainted_by(tx, project, version.trained_from, version.trained_to, made) is not None


def _newest_gate(tx: Tx, project: str, version: int) -> Gate | None:
    box = tables.gates
    return rows.first(tx, Gate, box.c.project == project, box.c.version == version, newest=True)


def _cooled(tx: Tx, context: Context) -> bool:
    release = rows.first(tx, Release, tables.releases.c.project == context.project.name, newest=True)
    return release is None or tx.now >= release.created_at + context.project.retrain.cooldown
