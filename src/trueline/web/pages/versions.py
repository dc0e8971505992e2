"""The page of a model version: what it is made of, what was judged of it, and whether it serves."""

from __future__ import annotations

from trueline.domain.versions import parity_told, speed_told
from trueline.errors import NotFound
from trueline.web.api.calls import ApiResponse, view
from trueline.web.api.versions import VersionView
from trueline.web.pages.calls import Look
from trueline.web.pages.things import Fact, show_thing

_DIGITS = 9


def show(look: Look) -> ApiResponse:
    number = look.path["number"]
    if not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
        raise NotFound(f"there is no version {number}")
    version = view(look.services.version(int(number)), VersionView)
    status = look.status
    route = next((route for route in status.routes if route.version == version.number), None)
    facts = [
        Fact("waits for", version.waiting),
        Fact("serves", route and f"as {route.arm}, {route.weight:.0%} of requests"),
        Fact("trained on", f"rows from {version.trained_from:%Y-%m-%d} to {version.trained_to:%Y-%m-%d}"),
        Fact("run", version.run, f"/runs/{version.run}"),
        Fact("purpose", version.purpose),
        Fact("task", version.task),
        Fact("metrics", version.metrics),
        Fact("executor", version.executor),
        Fact("speed", speed_told(version.parity)),
        Fact("agrees with the fitted model", parity_told(version.parity)),
        Fact("executors not taken", "; ".join(version.parity.get("tried", ()))),
        Fact("edges the estimator refuses itself", "; ".join(version.parity.get("skipped", ()))),
        Fact("digest", version.digest),
        Fact("made", version.created_at),
    ]
    return show_thing(
        look,
        title=f"Version {version.number}",
        state=version.state,
        sentence=f"packaged for {version.executor}, from {version.run}",
        facts=facts,
        ref=f"{status.project}/v{version.number}",
        why=str(version.number),
    )
