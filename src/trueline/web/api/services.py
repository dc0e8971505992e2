"""What the surface needs from the inside: one method per thing somebody may ask or do.

`trueline.wiring` builds the object; handlers call nothing else. Values come back as the domain's frozen ones. Where a
method returns `object`, any value with the attributes of the view named in its docstring will do. Methods are called
from several threads at once. Lists come newest first (events oldest first), begin behind `after` and hold at most
`limit` rows. What cannot be done raises from `trueline.errors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # a client that starts and ends in a tenth of a second imports this module
    from trueline.domain.datasets import DatasetVersion
    from trueline.domain.events import Event
    from trueline.domain.gates import Gate
    from trueline.domain.incidents import Incident
    from trueline.domain.releases import Release
    from trueline.domain.runs import Run
    from trueline.domain.steps import Step
    from trueline.domain.versions import Version


class Services(Protocol):
    """Everything the API offers, bound to one project."""

    @property
    def replaying(self) -> bool:
        """Whether event time is posted by a driver (`up --replay`)."""

    def unready(self) -> str | None:
        """The sentence why no work can be taken now, or None."""

    def status(self) -> object:
        """`status.StatusView`."""

    def start_run(
        self, *, fit: str | None, params: Mapping[str, Any], source: str | None, release: bool, reason: str, actor: str
    ) -> Run: ...

    def run(self, run_id: str) -> Run: ...

    def resume(self, run_id: str, *, reason: str, actor: str) -> Run:
        """Queue a failed run again: what its steps have finished stays."""

    def steps(self, run_id: str) -> Sequence[Step]:
        """In the pipeline's order; none for a run that is one function."""

    def logs(self, run_id: str, *, step: str | None, after: str | None) -> object:
        """`steps.LogsView`: what has been printed behind the cursor."""

    def why_cached(self, ref: str) -> object:
        """`steps.WhyCachedView` of a run id or a step id (run-7:prepare)."""

    def runs(self, *, limit: int, after: str | None) -> Sequence[Run]: ...

    def version(self, number: int) -> Version: ...

    def versions(self, *, limit: int, after: int | None) -> Sequence[Version]: ...

    def waive(self, number: int, *, reason: str, actor: str) -> Version:
        """Let a version pass that its gate did not, with a reason that is kept."""

    def approve(self, number: int, *, reason: str, actor: str) -> Version:
        """One person's yes to the release of a version whose gate let it pass."""

    def gate(self, gate_id: str) -> Gate: ...

    def gates(self, *, version: int | None, limit: int, after: str | None) -> Sequence[Gate]: ...

    def release(self, release_id: str) -> Release: ...

    def releases(self, *, version: int | None, limit: int, after: str | None) -> Sequence[Release]: ...

    def start_release(self, version: int, *, reason: str, actor: str) -> Release: ...

    def promote(self, release_id: str, *, reason: str, actor: str) -> Release:
        """Give the released version all traffic now."""

    def roll_back(self, *, version: int | None, reason: str, actor: str) -> object:
        """`releases.RollbackView`: end the live release, or route everything to `version`."""

    def events(self, *, after: int, limit: int, kind: str | None) -> Sequence[Event]:
        """Oldest first; `kind` may be a noun alone ("release") or a full kind ("release.promote")."""

    def timeline(
        self,
        *,
        before: int | None,
        limit: int,
        kinds: Sequence[str] | None,
        ref: str | None = None,
        since: datetime | None = None,
    ) -> Sequence[Event]:
        """Newest first: earlier than event `before`, not before `since`, of these full kinds, about `ref`."""

    def newest_event(self) -> int:
        """The largest id so far, of any project in the database; 0 before the first. None comes later that is smaller."""

    def performance(self, *, days: int, until: date | None) -> object:
        """`performance.PerformanceView` of so many event-time days, the last being `until` or the newest."""

    def needs(self, release_id: str) -> str | None:
        """What the next move of a live release waits for; None for one that is not under way."""

    def why(self, ref: str) -> object:
        """`why.WhyView` of a prediction id, run id, version number, release id or gate id."""

    def incidents(self, *, limit: int, after: str | None) -> Sequence[Incident]: ...

    def incident(self, incident_id: str) -> Incident: ...

    def acknowledge(self, incident_id: str, *, reason: str, actor: str) -> Incident: ...

    def staleness(self) -> object:
        """`staleness.StalenessView`."""

    def datasets(self, *, limit: int, after: int | None) -> Sequence[DatasetVersion]: ...

    def trigger(self, kind: str, *, reason: str, actor: str) -> Run:
        """Start what `kind` ("manual" or "rehearsal") starts; `Conflict` when cooldown or cost cap forbid it."""

    def now(self) -> datetime:
        """The time policies live in."""

    def next_due(self) -> datetime | None:
        """When there is something to do next, as far as is known; a replay need not stop before."""

    def replay(self, now: datetime) -> None:
        """Move event time to `now` and return when nothing is left to do; `InvalidInput` for going back."""

    def work_until_idle(self) -> None:
        """Do the workers' and loops' part here, in this process, until nothing is left (no server running)."""

    def close(self) -> None: ...
