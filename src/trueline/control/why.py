"""Why: from anything that has an id, back through model and run to code, data and the decisions taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from trueline.control import events, runs, steps
from trueline.domain.datasets import DatasetVersion
from trueline.domain.gates import Gate
from trueline.domain.incidents import Incident
from trueline.domain.releases import Release
from trueline.domain.runs import Run
from trueline.domain.steps import Step
from trueline.store import rows, tables
from trueline.store.engine import Tx


@dataclass(frozen=True)
class Link:
    noun: str
    ref: str
    sentence: str
    at: datetime | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Why:
    id: str
    noun: str
    sentence: str
    links: tuple[Link, ...]


def of_version(tx: Tx, project: str, number: int) -> list[Link]:
    """The version, its gates, its releases, its run, code, data."""
    version = runs.version(tx, project, number)
    run = rows.get(tx, Run, version.run)
    sentence = f"version {number} was packaged for {version.executor}, {version.state}"
    facts = {"digest": version.digest, "metrics": version.metrics, "parity": version.parity}
    links = [Link("version", f"v{number}", sentence, version.created_at, facts)]
    links += _gates(tx, project, number)
    links += _releases(tx, project, number)
    return links + of_run(tx, run)


def of_run(tx: Tx, run: Run) -> list[Link]:
    """A run with its code tree and its data."""
    window = f"rows from {run.window_from:%Y-%m-%d} to {run.cut_at:%Y-%m-%d}"
    links = [
        Link(
            "run",
            run.id,
            f"{run.purpose} run by {run.actor}: {run.reason}; {window}",
            run.created_at,
            {"params": run.params},
        )
    ]
    links += [_step(step) for step in steps.of_run(tx, run.cached_from or run.id)]
    if run.tree:
        links.append(Link("code", run.tree, f"{run.entry} of exactly this code tree", None, {"key": run.key}))
    if run.dataset is not None:
        box = tables.datasets
        data = rows.first(tx, DatasetVersion, box.c.project == run.project, box.c.number == run.dataset)
        if data is not None:
            sentence = f"dataset version {data.number}: {data.rows} rows, last change from {data.origin}"
            links.append(Link("dataset", f"d{data.number}", sentence, data.created_at, {"digest": data.digest}))
    return links


def _step(step: Step) -> Link:
    told = step.error or (f"made by {step.cached_from}" if step.cached_from else step.entry)
    return Link("step", step.id, f"{step.state}: {told}", step.finished_at, {"key": step.key})


def of_gate(tx: Tx, gate: Gate) -> Why:
    links = [_gate(gate), *of_version(tx, gate.project, gate.version)]
    return Why(gate.id, "gate", f"{gate.id} judged version {gate.version}: {gate.verdict or gate.state}", tuple(links))


def of_release(tx: Tx, release: Release) -> Why:
    links = [
        Link("event", event.kind, event.reason, event.at, {"actor": event.actor})
        for event in events.about(tx, release.project, release.id)
    ]
    links += of_version(tx, release.project, release.version)
    return Why(release.id, "release", f"{release.id} of version {release.version} is {release.state}", tuple(links))


def of_incident(tx: Tx, incident: Incident) -> Why:
    """An incident's suspects, the likeliest first, what was said of it since, and the version that served."""
    suspects = (incident.cause or {}).get("suspects", ())
    links = [
        Link(
            "suspect",
            f"{one['kind']} {one['name']}",
            _share(one["share"]) + one["sentence"],
            None,
            {"share": one["share"]},
        )
        for one in suspects
    ]
    links += [
        Link("event", event.kind, event.reason, event.at, {"actor": event.actor})
        for event in events.about(tx, incident.project, incident.id)
    ]
    links += of_version(tx, incident.project, incident.version)
    said = f"{incident.id} is {incident.state}, advice {incident.advice}: {incident.reason}"
    return Why(incident.id, "incident", said, tuple(links))


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%} of the loss beyond the promise: "


def _gates(tx: Tx, project: str, version: int) -> list[Link]:
    found = rows.find(tx, Gate, tables.gates.c.project == project, tables.gates.c.version == version)
    return [_gate(gate) for gate in found]


def _gate(gate: Gate) -> Link:
    waived = f"; waived by {gate.waived_by}: {gate.waiver}" if gate.waived_by else ""
    return Link(
        "gate", gate.id, f"{gate.verdict or gate.state}: {gate.reason or 'not decided yet'}{waived}", gate.decided_at
    )


def _releases(tx: Tx, project: str, version: int) -> list[Link]:
    box = tables.releases
    found = rows.find(tx, Release, box.c.project == project, box.c.version == version)
    links = []
    for release in found:
        moved = [event for event in events.about(tx, project, release.id) if event.kind != "release.create"]
        last = moved[-1].reason if moved else release.reason
        links.append(Link("release", release.id, f"{release.state}: {last}", release.stage_since))
    return links
