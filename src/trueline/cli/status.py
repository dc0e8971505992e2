"""`trueline status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trueline.cli.options import Session, with_session
from trueline.cli.output import cell

if TYPE_CHECKING:
    from trueline.web.api.status import RecordingView, StatusView


@click.command
@with_session
def status(session: Session) -> None:
    """What serves, what moves, what is wrong.

    \b
    Examples:
      trueline status
      trueline status --json | jq .champion
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    with session.client() as client:
        found = client.status()
    if session.out.as_json:
        session.out.json(found)
        return
    session.out.facts(f"{found.project}: {found.sentence}", _facts(found))


def _facts(found: StatusView) -> list[tuple[str, object]]:
    release = found.release
    facts: list[tuple[str, object]] = [
        ("time", f"{cell(found.now)}{' (replayed)' if found.replaying else ''}"),
        ("serves", ", ".join(f"v{r.version} {r.arm} {r.weight:.0%}" for r in found.routes) or "nothing yet"),
        ("champion", found.champion and f"v{found.champion} since {cell(found.champion_since)}"),
        ("routes", f"epoch {found.epoch}" + _lag(found.epoch, found.acknowledged)),
        (
            "release",
            release and f"{release.id} of v{release.version}: {release.state} since {cell(release.stage_since)}",
        ),
        ("work", _work(found)),
        ("retraining", found.freshness and found.freshness.sentence),
        ("dataset", found.dataset and f"d{found.dataset}"),
        ("predictions", f"{found.predictions} on the days judged so far"),
        ("labels", f"{found.labels} on the days judged so far{_astray(found.unknown_labels)}"),
    ]
    if found.undelivered:
        facts.append(("delivery", f"the routes are not on every server yet: {found.undelivered}"))
    if found.tracking and found.tracking.waiting:
        why = f": {found.tracking.error}" if found.tracking.error else ""
        facts.append(("tracking", f"{found.tracking.waiting} not told yet{why}"))
    facts += [("journal", f"{one.replica}: {_recording(one)}") for one in found.recording]
    if found.hold:
        facts.append(("hold", "rolled back on the server itself; a release lifts it"))
    facts += [("incident", f"{i.id} ({i.state}, {i.advice}): {i.reason}") for i in found.incidents]
    return facts


def _astray(unknown: int | None) -> str:
    return f"; those of the last days name {unknown} predictions that are not known" if unknown else ""


def _recording(one: RecordingView) -> str:
    lost = f"{one.unrecorded} predictions went unrecorded since it started"
    return "; ".join(said for said in (one.problem, one.shipping, one.unrecorded and lost) if said)


def _lag(epoch: int, acknowledged: int) -> str:
    return "" if epoch == acknowledged else f", servers confirmed {acknowledged}"


def _work(found: StatusView) -> str:
    waiting = {
        "runs going": found.running_runs,
        "runs waiting": found.queued_runs,
        "gates open": found.open_gates,
    }
    return ", ".join(f"{count} {what}" for what, count in waiting.items() if count) or "idle"
