"""Which events make the story, in which words, on which lane of the picture. The log has all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trueline.web.api.events import EventView

TRAINING, GATES, RELEASES, INCIDENTS = "training", "gates", "releases", "incidents"
LANES = (TRAINING, GATES, RELEASES, INCIDENTS)


@dataclass(frozen=True)
class Telling:
    """How an event is told: its word, its lane, and the tone of both (`good`, `bad`, `warn`, `move` or `calm`)."""

    word: str
    lane: str
    tone: str = "calm"


TOLD: Mapping[str, Telling] = {
    "run.create": Telling("training", TRAINING),
    "run.succeed": Telling("trained", TRAINING),
    "run.fail": Telling("training failed", TRAINING, "bad"),
    "run.cancel": Telling("training cancelled", TRAINING, "warn"),
    "run.resume": Telling("training resumed", TRAINING),
    "run.quarantine": Telling("training set aside", TRAINING, "bad"),
    "step.fail": Telling("step failed", TRAINING, "bad"),
    "contract.infer": Telling("contract", TRAINING),
    "contract.warn": Telling("contract warns", TRAINING, "warn"),
    "gate.decide": Telling("gate", GATES),
    "gate.waive": Telling("gate waived", GATES, "warn"),
    "version.approval": Telling("approved", GATES, "good"),
    "version.wait": Telling("waits for approval", GATES, "warn"),
    "release.create": Telling("release asked for", RELEASES),
    "release.skip": Telling("release skipped", RELEASES),
    "release.start_shadow": Telling("shadow", RELEASES, "move"),
    "release.start_canary": Telling("canary", RELEASES, "move"),
    "release.widen": Telling("canary widened", RELEASES, "move"),
    "release.promote": Telling("promoted", RELEASES, "good"),
    "release.roll_back": Telling("rolled back", RELEASES, "bad"),
    "release.restored": Telling("restored", RELEASES, "bad"),
    "release.hold": Telling("release held", RELEASES, "warn"),
    "release.abort": Telling("release given up", RELEASES, "warn"),
    "release.finish": Telling("watch ended", RELEASES),
    "route.hold": Telling("rolled back on the server", RELEASES, "bad"),
    "incident.open": Telling("incident", INCIDENTS, "bad"),
    "incident.acknowledge": Telling("acknowledged", INCIDENTS, "warn"),
    "incident.advise": Telling("new advice", INCIDENTS, "warn"),
    "incident.hold": Telling("held", INCIDENTS, "warn"),
    "incident.close": Telling("incident closed", INCIDENTS, "good"),
}
_VERDICTS = {"pass": "good", "fail": "bad", "inconclusive": "warn", "error": "bad"}
_QUIET = frozenset({"run.succeed", "release.create", "release.finish"})
"""Told in the list of one lane, and left out of the picture and of the list of all: their neighbours say the same."""


def telling(event: EventView) -> Telling:
    """How to tell an event; a kind not known here tells itself."""
    words = event.kind.replace(".", " ").replace("_", " ")
    known = TOLD.get(event.kind, Telling(words, event.kind.split(".", maxsplit=1)[0]))
    if event.kind == "gate.decide":
        verdict = str(event.detail.get("verdict"))
        return Telling(f"gate: {verdict}", known.lane, _VERDICTS.get(verdict, known.tone))
    return known


def kinds(lane: str | None) -> tuple[str, ...]:
    """The kinds of one lane, or those of the whole story.

    >>> kinds("incidents")[0], "run.succeed" in kinds(None), "run.succeed" in kinds("training")
    ('incident.open', False, True)
    """
    if lane is None:
        return tuple(kind for kind in TOLD if kind not in _QUIET)
    return tuple(kind for kind, told in TOLD.items() if told.lane == lane)
