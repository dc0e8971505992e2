"""What goes wrong on purpose: two models that should not get far, and two weeks of a feed that speaks another unit.

The models are pushed as a colleague would push them, through the public API, with a reason. The first is stopped by its
gate. The second fails its gate too, but somebody waives the verdict; its canary sends it back. The feed is one
airline's: for two weeks its distances come in kilometres, and nobody says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from trueline.client import Client
from trueline.demo.flights import START, Flight, Flights
from trueline.errors import TruelineError
from trueline.web.api.releases import ReleaseView

KILOMETRES_A_MILE = 1.609344


@dataclass(frozen=True)
class Feed:
    """One airline's distances, in kilometres for a while."""

    carrier: str
    since: datetime
    until: datetime

    def row(self, flight: Flight) -> dict[str, Any]:
        """What the server is asked with."""
        broken = flight.row["carrier"] == self.carrier and self.since <= flight.scheduled < self.until
        return {**flight.row, "distance": flight.row["distance"] * KILOMETRES_A_MILE} if broken else flight.row

    def flights(self, drawn: Flights) -> Flights:
        """What the other policies were asked with, and learnt from: the same feed."""
        scheduled = pl.col("scheduled")
        broken = (pl.col("carrier") == self.carrier) & (scheduled >= self.since) & (scheduled < self.until)
        told = pl.when(broken).then(pl.col("distance") * KILOMETRES_A_MILE).otherwise(pl.col("distance"))
        return Flights(drawn.frame.with_columns(distance=told))


FEED = Feed("DL", START.replace(month=10, day=1), START.replace(month=10, day=15))
"""Outside of the summer that the policies are compared in; two carriers in three have fewer flights."""


@dataclass(frozen=True)
class Plan:
    entry: str
    at: datetime
    reason: str
    waiver: str | None = None


PLANS = (
    Plan(
        "leaky.py:fit",
        START.replace(month=2, day=18, hour=9),
        "adds the time from gate to gate: by far the best on January's held-out days",
    ),
    Plan(
        "kilometres.py:fit",
        START.replace(month=3, day=18, hour=9),
        "distances in kilometres, as in the rest of the code",
        "Kim: only the units changed, so the model is the same; it must be the gate's data that is off",
    ),
)


class Push:
    """One plan on its way; `step` does at most one thing and says whether it did."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.run: str | None = None
        self.version: int | None = None
        self.verdict: str | None = None
        self.reason: str | None = None
        self.done = False

    def waits(self, now: datetime) -> bool:
        """Whether its hour has come and it is not through yet."""
        return not self.done and now >= self.plan.at

    def step(self, client: Client, now: datetime) -> bool:
        """Push when its hour has come, then wait for the run, then for the gate, then waive if that is the plan."""
        if not self.waits(now):
            return False
        if self.run is None:
            self.run = client.start_run(fit=self.plan.entry, reason=self.plan.reason).id
            return True
        if self.version is None and not self._trained(client):
            return False
        gate = next((one for one in client.gates(version=self.version or 0).items if one.verdict), None)
        if gate is None:
            return False
        self.verdict, self.reason, self.done = gate.verdict, gate.reason, True
        if self.plan.waiver is None or self.version is None:
            return False
        client.waive(self.version, self.plan.waiver)
        return True

    def _trained(self, client: Client) -> bool:
        run = client.run(self.run or "")
        if run.state in ("failed", "cancelled"):
            raise TruelineError(f"the planted push {self.plan.entry} was to train and did not: {run.error}")
        self.version = run.version
        return self.version is not None

    def release(self, client: Client) -> ReleaseView | None:
        """The release that it got, if any."""
        return None if self.version is None else next(iter(client.releases(version=self.version).items), None)
