"""What an upstream fault means for releases: nothing gets more traffic while one is open, nothing that learnt it ever does.

During a fault losses say little about models, so evidence of merit is not to be had; harm still rolls back. A person's
`promote` is not asked here.
"""

from __future__ import annotations

from dataclasses import replace

from trueline.control import incidents, runs
from trueline.domain.releases import Release
from trueline.releases.decide import Act, ReleaseDecision
from trueline.store.engine import Tx


def holds(tx: Tx, release: Release) -> bool:
    """Whether a waiting release has to go on waiting."""
    return incidents.open_fault(tx, release.project) is not None


def heed(tx: Tx, release: Release, decision: ReleaseDecision) -> ReleaseDecision:
    """The decision, unless an open fault forbids it, or asks for the version to be taken back."""
    fault = incidents.open_fault(tx, release.project)
    if fault is None or decision.verdict is Act.roll_back:
        return decision
    taught = learnt(tx, release)
    if taught is not None and release.previous is not None:
        return replace(decision, verdict=Act.roll_back, reason=taught)
    if decision.verdict in (Act.advance, Act.promote):
        return replace(decision, verdict=Act.wait, reason=f"waits for the end of {fault.id}: {fault.reason}")
    return decision


def learnt(tx: Tx, release: Release) -> str | None:
    """Why a version must not serve: its training rows hold days of a fault that was not known then."""
    version = runs.version(tx, release.project, release.version)
    span = (version.trained_from, version.trained_to)
    fault = incidents.tainted_by(tx, release.project, *span, version.created_at)
    if fault is None:
        return None
    cause = fault.cause or {}
    return (
        f"version {release.version} was trained on rows of {fault.id}, in which {cause['feature']} was broken in "
        f"{cause['slice']} since {cause['since']}"
    )
