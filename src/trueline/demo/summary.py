"""What the year came to: the figures of the table, of the JSON and of the report, each computed once, here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from trueline.demo.flights import START
from trueline.demo.ledger import POLICIES, Ledger
from trueline.demo.planted import FEED, Feed, Push
from trueline.web.api.events import EventView
from trueline.web.api.incidents import IncidentView
from trueline.web.api.releases import ReleaseView

SUMMER = (datetime(2013, 5, 1, tzinfo=UTC), datetime(2013, 10, 1, tzinfo=UTC))
AUTUMN = datetime(2013, 10, 1, tzinfo=UTC)
AHEAD = timedelta(days=14)
UPSTREAM = "upstream"
TOLERATED = 1.10  # a page was false if the model it was about stayed within this of its reference


@dataclass(frozen=True)
class Month:
    name: str
    flights: int
    mae: dict[str, float]
    promotions: int
    incidents: int


@dataclass(frozen=True)
class Stopped:
    """A planted push: what its gate said and, if it was released, how far it came."""

    push: Push
    release: ReleaseView | None


@dataclass(frozen=True)
class Year:
    """All that the outputs are made of."""

    ledger: Ledger
    events: Sequence[EventView]
    incidents: Sequence[IncidentView]  # oldest first
    stopped: Sequence[Stopped]
    predictions_stored: int
    labels_stored: int
    seconds: float

    @property
    def promotions(self) -> list[EventView]:
        """Each time another version took over; the first model of all replaced nothing."""
        promoted = [event for event in self.events if event.kind == "release.promote"]
        return promoted[1:]

    def months(self) -> list[Month]:
        """February to the end, one row each."""
        rows = []
        for number in range(START.month, 13):
            since = START.replace(month=number)
            until = START.replace(month=number + 1) if number < 12 else START.replace(year=START.year + 1, month=1)
            if not self.ledger.mask(since, until).any():
                continue
            mae = {policy: self.ledger.mae(policy, since, until) for policy in POLICIES}
            promotions = sum(since <= event.at < until for event in self.promotions)
            incidents = sum(since <= one.opened_at < until for one in self.incidents)
            flights = int(self.ledger.mask(since, until).sum())
            rows.append(Month(f"{since:%b}", flights, mae, promotions, incidents))
        return rows

    def false_pages(self) -> int:
        performance = [one for one in self.incidents if one.kind != UPSTREAM]
        false_faults = sum(false_fault(one, FEED) for one in self.incidents if one.kind == UPSTREAM)
        return false_faults + sum(false_page(self.ledger, one, reference(self.events, one)) for one in performance)

    def as_dict(self) -> dict[str, Any]:
        """The object that `--json` ends with. `seconds` and `rollback_ms` are wall times; nothing else is."""
        return {
            "may_sep_mae": {policy: _round(self.ledger.mae(policy, *SUMMER)) for policy in POLICIES},
            "months": [
                {
                    "month": month.name,
                    "flights": month.flights,
                    "mae": {policy: _round(value) for policy, value in month.mae.items()},
                    "promotions": month.promotions,
                    "incidents": month.incidents,
                }
                for month in self.months()
            ],
            "promotions": len(self.promotions),
            "incidents": [
                {"opened": _time(one.opened_at), "closed": _time(one.closed_at), "reason": one.reason}
                for one in self.incidents
            ],
            "upstream_fault": self.upstream_fault(),
            "autumn": self.autumn(),
            "false_pages": self.false_pages(),
            "gate_stopped": self._gate_stopped(),
            "canary_rolled_back": self._rolled_back(),
            "acknowledged": len(self.ledger.prediction_ids),
            "stored": self.predictions_stored,
            "labels": {"acknowledged": self.ledger.labelled, "stored": self.labels_stored},
            "refused": len(self.ledger.refused),
            "seconds": round(self.seconds, 1),
        }

    def upstream_fault(self) -> dict[str, Any] | None:
        """The first input that was found broken, as the incident says it."""
        for one in self.incidents:
            if one.kind == UPSTREAM and one.cause:
                return {
                    "feature": one.cause["feature"],
                    "slice": one.cause["slice"],
                    "advice": one.advice,
                    "since": one.cause["since"],
                    "until": one.cause.get("until"),
                    "opened": _time(one.opened_at),
                    "closed": _time(one.closed_at),
                    "reason": one.reason,
                    "promoted_meanwhile": sum(
                        one.cause["since"] <= event.at.date().isoformat() and event.at < (one.closed_at or event.at)
                        for event in self.promotions
                    ),
                }
        return None

    def autumn(self) -> dict[str, Any] | None:
        """What the loop first did about the season: an earlier champion again, or a refit, and why."""
        served: set[Any] = set()
        for event in (event for event in self.events if event.kind == "release.promote"):
            version = event.detail.get("version")
            if event.at >= AUTUMN:
                action = "re_promote" if version in served else "retrain"
                reason = self._why_proposed(version, event)
                return {"action": action, "version": version, "at": _time(event.at), "reason": reason}
            served.add(version)
        return None

    def _why_proposed(self, version: Any, promotion: EventView) -> str:
        """Why the loop sent a version to its gate, the last time before it was promoted."""
        asked = [
            event.reason
            for event in self.events
            if event.kind == "gate.create" and event.detail.get("version") == version and event.id < promotion.id
        ]
        return asked[-1] if asked else promotion.reason

    def _gate_stopped(self) -> dict[str, Any] | None:
        for one in self.stopped:
            if one.push.plan.waiver is None and one.push.verdict is not None:
                return {"version": one.push.version, "verdict": one.push.verdict, "reason": one.push.reason}
        return None

    def _rolled_back(self) -> dict[str, Any] | None:
        for one in self.stopped:
            release = one.release
            if one.push.plan.waiver is not None and release is not None and release.state == "rolled_back":
                return {
                    "version": release.version,
                    "requests_answered": release.requests_answered,
                    "rollback_ms": release.rollback_ms,
                    "reason": self.why_back(release),
                }
        return None

    def why_back(self, release: ReleaseView) -> str:
        """The sentence of the rollback; the release's own reason is why it was started."""
        told = (event.reason for event in self.events if event.ref == release.id and event.kind == "release.roll_back")
        return next(told, release.reason)


def reference(events: Sequence[EventView], incident: IncidentView) -> float:
    """The loss that the monitor compared with, as it recorded it when it opened the incident."""
    for event in events:
        if event.kind == "incident.open" and event.ref == incident.id:
            return float(event.detail.get("reference", math.nan))
    return math.nan


def false_page(ledger: Ledger, incident: IncidentView, promised: float) -> bool:
    """Whether the live model's next 14 days were within 10 % of its reference, counted by the caller.

    When another version takes over within the 14 days, the days that the paged model still answered count; when it
    answered nothing any more, there is nothing to hold against the page.
    """
    ahead = ledger.mae("trueline", incident.opened_at, incident.opened_at + AHEAD, incident.version)
    return ahead <= TOLERATED * promised


def false_fault(incident: IncidentView, feed: Feed) -> bool:
    """Whether an input was called broken that was not: another one, another slice, or another time than was planted."""
    cause = incident.cause or {}
    planted = (cause.get("feature"), cause.get("slice")) == ("distance", f"carrier={feed.carrier}")
    return not (planted and feed.since <= incident.opened_at < feed.until + AHEAD)


def _round(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
