"""The page of an incident: what went wrong, what is suspected, what to do, and how it ended."""

from __future__ import annotations

from datetime import timedelta

from trueline.web.api.calls import ApiResponse, view
from trueline.web.api.incidents import IncidentView
from trueline.web.pages.calls import Look
from trueline.web.pages.things import Fact, Table, show_thing

AROUND = timedelta(days=14)
TITLES = {
    "performance": "The model is worse than promised",
    "upstream": "An input is broken upstream",
    "journal": "Predictions go unrecorded",
}


def show(look: Look) -> ApiResponse:
    incident = view(look.services.incident(look.path["id"]), IncidentView)
    until = (incident.closed_at or look.services.now()) + AROUND
    cause = incident.cause or {}
    facts = [
        Fact("advice", incident.advice.replace("_", " ")),
        Fact("suspected first", suspected(incident)),
        Fact("serving when it opened", f"version {incident.version}", f"/versions/{incident.version}"),
        *(Fact(name.replace("_", " "), value) for name, value in cause.items() if name != "suspects"),
        Fact("opened", incident.opened_at),
        Fact("closed", incident.closed_at),
        Fact("why it closed", incident.closed_reason),
        Fact("on the curve", "the days around it", f"/?days=90&until={until:%Y-%m-%d}"),
    ]
    return show_thing(
        look,
        title=TITLES.get(incident.kind, incident.kind),
        name=incident.id,
        state=incident.state,
        sentence=incident.reason,
        facts=facts,
        tables=[table for table in (_suspects(incident),) if table.rows],
        ref=incident.id,
        why=incident.id,
    )


def suspected(incident: IncidentView) -> str | None:
    """The first suspect in a few words: what it is, and its share of the loss."""
    for one in (incident.cause or {}).get("suspects", ()):
        share = "" if one.get("share") is None else f" ({one['share']:.0%} of the loss)"
        return f"{one.get('kind', '')} {one.get('name', '')}{share}".strip()
    return None


def _suspects(incident: IncidentView) -> Table:
    """Every suspect with what speaks for it; shares overlap, so they rank and do not add up."""
    found = (incident.cause or {}).get("suspects", ())
    rows = [
        [
            f"{one.get('kind', '')} {one.get('name', '')}".strip(),
            None if one.get("share") is None else f"{one['share']:.0%}",
            one.get("sentence"),
        ]
        for one in found
    ]
    return Table("What is suspected", ("suspect", "share of the loss", "why"), rows)
