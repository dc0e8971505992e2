"""The page of a release: how far it came, on what evidence, and what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trueline.web.api.calls import ApiResponse, view
from trueline.web.api.releases import ReleaseView
from trueline.web.pages.calls import Look
from trueline.web.pages.things import Fact, Table, show_thing


def show(look: Look) -> ApiResponse:
    release = view(look.services.release(look.path["id"]), ReleaseView)
    took = None if release.rollback_ms is None else f"{release.rollback_ms:.0f} ms from decision to the last server"
    facts = [
        Fact("needs", look.services.needs(release.id)),
        Fact("version", f"version {release.version}", f"/versions/{release.version}"),
        Fact("in place of", release.previous and f"version {release.previous}", f"/versions/{release.previous}"),
        Fact("share of requests", release.evidence.get("weight") and f"{release.evidence['weight']:.0%}"),
        Fact("answered as canary", f"{release.requests_answered:,} requests"),
        Fact("rollback took", took),
        Fact("merit", "vouched for by its gate" if release.vouched else "to be shown by labelled loss"),
        Fact("asked for by", release.actor),
        Fact("begun", release.created_at),
        Fact("this stage since", release.stage_since),
        Fact("ended", release.finished_at),
    ]
    return show_thing(
        look,
        title=f"Release of version {release.version}",
        name=release.id,
        state=release.state,
        sentence=release.reason,
        facts=facts,
        tables=tables(release.evidence),
        evidence=release.evidence,
        ref=release.id,
        why=release.id,
    )


def tables(evidence: Mapping[str, Any]) -> list[Table]:
    """What was counted on each arm."""
    kept = evidence.get("kept") or {}
    rows: list[list[Any]] = []
    guard = kept.get("guard")
    if guard:
        rows.append(["bad requests", guard["events"]["canary"], guard["events"]["champion"]])
        rows.append(["requests", guard["alone"], sum(split["champion"] for split in kept.get("splits", ()))])
    arms = kept.get("arms")
    if arms:
        rows.append(["labelled rows", arms["canary"], arms["champion"]])
    counted = Table("What was counted while both answered", ("", "released version", "the one before"), rows)
    return [counted] if any(row[1] or row[2] for row in rows) else []
