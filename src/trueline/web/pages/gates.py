"""The page of a gate: the verdict, each check behind it, and the days that were compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trueline.web.api.calls import ApiResponse, view
from trueline.web.api.gates import GateView
from trueline.web.pages.calls import Look
from trueline.web.pages.things import Fact, Table, show_thing

COMPARED = {
    "baseline": "The candidate beside the constant baseline",
    "against_champion": "The candidate beside the champion",
    "against_best_earlier": "The candidate beside the best earlier champion",
}
"""Of the evidence: mean losses of both on the same rows, day by day."""


def show(look: Look) -> ApiResponse:
    gate = view(look.services.gate(look.path["id"]), GateView)
    evidence = gate.evidence or {}
    facts = [
        Fact("version", f"version {gate.version}", f"/versions/{gate.version}"),
        Fact(
            "compared with",
            gate.champion and f"version {gate.champion}, the champion",
            gate.champion and f"/versions/{gate.champion}",
        ),
        Fact("vouched for by", evidence.get("vouched_by")),
        Fact("waived by", gate.waived_by and f"{gate.waived_by}: {gate.waiver}"),
        Fact("asked for", gate.created_at),
        Fact("decided", gate.decided_at),
    ]
    return show_thing(
        look,
        title=f"Gate of version {gate.version}",
        name=gate.id,
        state=gate.verdict or gate.state,
        sentence=gate.reason or "not decided yet",
        facts=facts,
        tables=tables(evidence),
        evidence=evidence,
        ref=gate.id,
        why=gate.id,
    )


def tables(evidence: Mapping[str, Any]) -> list[Table]:
    """The evidence that has rows: checks, comparisons by day, features as trained and as served."""
    checks = [[one["name"], one["verdict"], one["reason"]] for one in evidence.get("checks", ())]
    made = [Table("What was checked", ("check", "verdict", "why"), checks)]
    for name, title in COMPARED.items():
        rows = [[one["block"], one["rows"], one["loss"], one["other"]] for one in evidence.get(name) or ()]
        made.append(Table(title, ("day", "rows", "its loss", "the other's"), rows))
    presence = [
        [one["feature"], f"{one['trained']:.1%}", one["served_rows"], one["served_present"]]
        for one in evidence.get("presence") or ()
    ]
    made.append(Table("Features", ("feature", "present in training", "rows served", "of them with it"), presence))
    return [table for table in made if table.rows]
