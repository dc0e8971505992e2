"""`Services` without a database: what tests of the surface, and of programs written against it, stand on.

It keeps the port's promises about lists, errors and actors, and does its work only when `work_until_idle` is called:
each queued run trains (or fails, for a fit function called "raises"), its gate says what `verdict` says, and what
passes is promoted at once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Protocol, TypeVar

from trueline.domain.datasets import DatasetVersion
from trueline.domain.events import Event
from trueline.domain.gates import Gate, GateState
from trueline.domain.incidents import INCIDENTS, Incident, IncidentEvent, IncidentState
from trueline.domain.releases import RELEASES, Release, ReleaseEvent, ReleaseState
from trueline.domain.runs import RUNS, Purpose, Run, RunEvent, RunState
from trueline.domain.steps import Step
from trueline.domain.versions import Version, VersionState
from trueline.errors import Conflict, InvalidInput, NotAllowed, NotFound

START = datetime(2026, 1, 1, tzinfo=UTC)


class _Numbered(Protocol):
    @property
    def version(self) -> int: ...


T = TypeVar("T")
R = TypeVar("R", bound=_Numbered)


@dataclass
class InMemoryServices:
    """One project, "example", in this object."""

    verdict: str = "pass"
    replaying: bool = False
    sick: str | None = None
    approvers: tuple[str, ...] = ()
    moment: datetime = START
    shelf_runs: dict[str, Run] = field(default_factory=dict)
    shelf_steps: dict[str, list[Step]] = field(default_factory=dict)
    shelf_versions: dict[int, Version] = field(default_factory=dict)
    shelf_gates: dict[str, Gate] = field(default_factory=dict)
    shelf_releases: dict[str, Release] = field(default_factory=dict)
    shelf_incidents: dict[str, Incident] = field(default_factory=dict)
    shelf_events: list[Event] = field(default_factory=list)
    shelf_days: list[dict[str, Any]] = field(default_factory=list)  # `performance.DayView`s, oldest first
    champion: int | None = None
    epoch: int = 0
    closed: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def unready(self) -> str | None:
        return self.sick

    def status(self) -> object:
        states = [run.state for run in self.shelf_runs.values()]
        champion = self.champion
        return {
            "project": "example",
            "sentence": f"version {champion} serves" if champion else "nothing serves yet",
            "now": self.moment,
            "idle": RunState.queued not in states,
            "replaying": self.replaying,
            "champion": champion,
            "champion_since": self.moment if champion else None,
            "epoch": self.epoch,
            "acknowledged": self.epoch,
            "routes": [{"version": champion, "arm": "champion", "weight": 1.0}] if champion else [],
            "release": next((r for r in self.shelf_releases.values() if r.state is ReleaseState.promoted), None),
            "queued_runs": states.count(RunState.queued),
            "incidents": [i for i in self.shelf_incidents.values() if i.state is not IncidentState.closed],
            "last_event": len(self.shelf_events),
        }

    # ---- runs and versions -----------------------------------------------------------------------------------------

    def start_run(
        self, *, fit: str | None, params: Mapping[str, Any], source: str | None, release: bool, reason: str, actor: str
    ) -> Run:
        with self.lock:
            run = Run(
                id=f"run-{len(self.shelf_runs) + 1}",
                project="example",
                state=RunState.queued,
                purpose=Purpose.manual,
                entry=fit or "model.py:fit",
                params=dict(params),
                source=source,
                release=release,
                cut_at=self.moment,
                window_from=self.moment,
                reason=reason,
                actor=actor,
                dataset=None,
                key=None,
                key_parts=None,
                cached_from=None,
                tree=None,
                version=None,
                metrics=None,
                error=None,
                created_at=self.moment,
                finished_at=None,
            )
            self.shelf_runs[run.id] = run
            self._record("run.create", run.id, actor, reason)
            return run

    def run(self, run_id: str) -> Run:
        return _found(self.shelf_runs, run_id, "run")

    def resume(self, run_id: str, *, reason: str, actor: str) -> Run:
        following = RUNS.next(self.run(run_id).state, RunEvent.resume, which=run_id)
        self.shelf_runs[run_id] = replace(self.run(run_id), state=following, error=None, finished_at=None)
        self._record("run.resume", run_id, actor, reason)
        return self.shelf_runs[run_id]

    def steps(self, run_id: str) -> Sequence[Step]:
        return self.shelf_steps.get(self.run(run_id).id, ())

    def logs(self, run_id: str, *, step: str | None, after: str | None) -> object:
        names = [one.name for one in self.steps(run_id)]
        if step is not None and step not in names:
            raise NotFound(f"the run has no step {step}; it has {', '.join(names) or 'none'}")
        items = [] if after else [{"step": step, "text": f"fitting {run_id}\n"}]
        return {"items": items, "next": ":1", "ended": self.run(run_id).state is not RunState.queued}

    def why_cached(self, ref: str) -> object:
        return {"id": self.run(ref).id, "cached": False, "nearest": None, "sentence": "trained: no run came before it"}

    def runs(self, *, limit: int, after: str | None) -> Sequence[Run]:
        return _page(self.shelf_runs, limit, after)

    def version(self, number: int) -> Version:
        return _found(self.shelf_versions, number, "version")

    def versions(self, *, limit: int, after: int | None) -> Sequence[Version]:
        return _page(self.shelf_versions, limit, after)

    def waive(self, number: int, *, reason: str, actor: str) -> Version:
        version = replace(self.version(number), state=VersionState.approved)
        self.shelf_versions[number] = version
        for gate in self.gates(version=number, limit=1, after=None):
            self.shelf_gates[gate.id] = replace(gate, waived_by=actor, waiver=reason)
        self._record("version.waive", f"example/v{number}", actor, reason)
        return version

    def approve(self, number: int, *, reason: str, actor: str) -> Version:
        if not self.approvers:
            raise Conflict("this project asks for no approvals; name people under gates.approve.by to ask for them")
        if actor not in self.approvers:
            raise NotAllowed(f"{actor} may not approve here; gates.approve.by names {', '.join(self.approvers)}")
        version = replace(self.version(number), state=VersionState.approved, waiting=None)
        self.shelf_versions[number] = version
        self._record("version.approval", f"example/v{number}", actor, reason)
        return version

    def gate(self, gate_id: str) -> Gate:
        return _found(self.shelf_gates, gate_id, "gate")

    def gates(self, *, version: int | None, limit: int, after: str | None) -> Sequence[Gate]:
        return _page(_of(self.shelf_gates, version), limit, after)

    # ---- releases --------------------------------------------------------------------------------------------------

    def release(self, release_id: str) -> Release:
        return _found(self.shelf_releases, release_id, "release")

    def releases(self, *, version: int | None, limit: int, after: str | None) -> Sequence[Release]:
        return _page(_of(self.shelf_releases, version), limit, after)

    def start_release(self, version: int, *, reason: str, actor: str) -> Release:
        with self.lock:
            if self.version(version).state is not VersionState.approved:
                raise Conflict(f"version {version} is not approved: it needs a passed gate or a waiver")
            release = Release(
                id=f"release-{len(self.shelf_releases) + 1}",
                project="example",
                state=RELEASES.initial,
                version=version,
                previous=self.champion,
                step=0,
                vouched=True,
                evidence={},
                reason=reason,
                actor=actor,
                created_at=self.moment,
                stage_since=self.moment,
                finished_at=None,
                requests_answered=0,
                rollback_ms=None,
            )
            self.shelf_releases[release.id] = release
            self._record("release.create", release.id, actor, reason)
            return release

    def promote(self, release_id: str, *, reason: str, actor: str) -> Release:
        with self.lock:
            release = self.release(release_id)
            following = RELEASES.next(release.state, ReleaseEvent.promote, which=release_id)
            for other in self.shelf_releases.values():
                if other.state is ReleaseState.promoted:
                    self.shelf_releases[other.id] = replace(other, state=ReleaseState.done)
            self.shelf_releases[release_id] = replace(release, state=following, reason=reason)
            self.champion, self.epoch = release.version, self.epoch + 1
            self._record("release.promote", release_id, actor, reason)
            return self.shelf_releases[release_id]

    def roll_back(self, *, version: int | None, reason: str, actor: str) -> object:
        with self.lock:
            live = next((r for r in self.shelf_releases.values() if r.state is ReleaseState.promoted), None)
            target = version or (live.previous if live else None)
            if target is None:
                raise Conflict("no release is under way or watched: there is nothing to roll back")
            self.version(target)
            if live is not None:
                self.shelf_releases[live.id] = replace(live, state=ReleaseState.rolled_back, rollback_ms=1.0)
                self._record("release.roll_back", live.id, actor, reason)
            self.champion, self.epoch = target, self.epoch + 1
            release = live.id if live else None
            return {"version": target, "epoch": self.epoch, "reason": reason, "release": release, "rollback_ms": 1.0}

    # ---- events, incidents, the rest -------------------------------------------------------------------------------

    def events(self, *, after: int, limit: int, kind: str | None) -> Sequence[Event]:
        wanted = (
            e for e in self.shelf_events if e.id > after and (kind is None or f"{e.kind}.".startswith(f"{kind}."))
        )
        return list(wanted)[:limit]

    def timeline(
        self,
        *,
        before: int | None,
        limit: int,
        kinds: Sequence[str] | None,
        ref: str | None = None,
        since: datetime | None = None,
    ) -> Sequence[Event]:
        wanted = (
            e
            for e in reversed(self.shelf_events)
            if (before is None or e.id < before)
            and (kinds is None or e.kind in kinds)
            and (ref is None or e.ref == ref)
            and (since is None or e.at >= since)
        )
        return list(wanted)[:limit]

    def newest_event(self) -> int:
        return self.shelf_events[-1].id if self.shelf_events else 0

    def performance(self, *, days: int, until: date | None) -> object:
        shown = [one for one in self.shelf_days if until is None or one["day"] <= until]
        since = {e.at for e in self.shelf_events if e.kind == "release.promote"}
        return {
            "metric": "mean absolute error",
            "target": "price",
            "days": shown[-days:],
            "promise": {"mean": 1.4, "upper": 1.5, "limit": 1.65},
            "reigns": [{"version": self.champion, "since": max(since)}] if self.champion and since else [],
            "incidents": list(self.shelf_incidents.values()),
            "earlier": len(shown) > days,
        }

    def needs(self, release_id: str) -> str | None:
        return "watched for 7 days more" if self.release(release_id).state is ReleaseState.promoted else None

    def why(self, ref: str) -> object:
        run = self.run(ref)
        link = {
            "noun": "run",
            "ref": run.id,
            "sentence": run.reason,
            "at": run.created_at,
            "facts": {"entry": run.entry},
        }
        return {"id": ref, "noun": "run", "sentence": f"{ref} is {run.state}", "links": [link]}

    def incidents(self, *, limit: int, after: str | None) -> Sequence[Incident]:
        return _page(self.shelf_incidents, limit, after)

    def incident(self, incident_id: str) -> Incident:
        return _found(self.shelf_incidents, incident_id, "incident")

    def acknowledge(self, incident_id: str, *, reason: str, actor: str) -> Incident:
        incident = _found(self.shelf_incidents, incident_id, "incident")
        following = INCIDENTS.next(incident.state, IncidentEvent.acknowledge, which=incident_id)
        self.shelf_incidents[incident_id] = replace(incident, state=following)
        self._record("incident.acknowledge", incident_id, actor, reason)
        return self.shelf_incidents[incident_id]

    def staleness(self) -> object:
        age = {"age_days": 7.0, "ratio": 1.04, "low": 1.01, "high": 1.07, "blocks": 21}
        return {"sentence": "this model loses 4 % a week", "ages": [age]}

    def datasets(self, *, limit: int, after: int | None) -> Sequence[DatasetVersion]:
        one = DatasetVersion("example", 1, "digest", 100, "source", 0, self.moment)
        return _page({1: one}, limit, after)

    def trigger(self, kind: str, *, reason: str, actor: str) -> Run:
        run = self.start_run(fit=None, params={}, source=None, release=True, reason=reason, actor=actor)
        self.shelf_runs[run.id] = replace(run, purpose=Purpose(kind))
        return self.shelf_runs[run.id]

    def now(self) -> datetime:
        return self.moment

    def next_due(self) -> datetime | None:
        return None

    def replay(self, now: datetime) -> None:
        if now < self.moment:
            raise InvalidInput(f"replayed time only goes forward: it is {self.moment.isoformat()}")
        self.moment = now
        self.work_until_idle()

    def work_until_idle(self) -> None:
        with self.lock:
            for run in [run for run in self.shelf_runs.values() if run.state is RunState.queued]:
                self._work(run)

    def close(self) -> None:
        self.closed = True

    def _work(self, run: Run) -> None:
        if run.entry.endswith(":raises"):
            error = f"{run.entry} raised ValueError: no luck"
            self.shelf_runs[run.id] = replace(run, state=RunState.failed, error=error, finished_at=self.moment)
            self._record("run.fail", run.id, "worker", error)
            return
        number = len(self.shelf_versions) + 1
        self.shelf_runs[run.id] = replace(
            run, state=RunState.succeeded, version=number, metrics={"mae": 1.5}, finished_at=self.moment
        )
        self._record("run.succeed", run.id, "worker", f"version {number} trained")
        passed = self.verdict == "pass"
        self.shelf_versions[number] = Version(
            project="example",
            number=number,
            run=run.id,
            state=VersionState.approved if passed else VersionState.rejected,
            digest="d",
            executor="onnx",
            task="regression",
            parity={"worst": 0.0},
            metrics={"mae": 1.5},
            summary={},
            trained_from=run.window_from,
            trained_to=run.cut_at,
            purpose=str(run.purpose),
            created_at=self.moment,
        )
        gate = Gate(
            id=f"gate-{number}",
            project="example",
            state=GateState.decided,
            version=number,
            champion=self.champion,
            verdict=self.verdict,
            reason=f"by the test's wish: {self.verdict}",
            evidence={"blocks": 14},
            vouched=False,
            waived_by=None,
            waiver=None,
            created_at=self.moment,
            decided_at=self.moment,
        )
        self.shelf_gates[gate.id] = gate
        self._record("gate.decide", gate.id, "worker", gate.reason or "", version=number, verdict=self.verdict)
        if passed and run.release:
            release = self.start_release(number, reason="its gate passed", actor="control")
            self.promote(release.id, reason="it is the first", actor="control")

    def _record(self, kind: str, ref: str, actor: str, reason: str, **detail: object) -> None:
        number = len(self.shelf_events) + 1
        event = Event(number, self.moment, self.moment, "example", kind, ref, actor, reason, detail)
        self.shelf_events.append(event)


def _found(shelf: Mapping[Any, T], key: object, noun: str) -> T:
    if key not in shelf:
        raise NotFound(f"there is no {noun} {key}")
    return shelf[key]


def _of(shelf: Mapping[str, R], version: int | None) -> dict[str, R]:
    return {key: row for key, row in shelf.items() if version is None or row.version == version}


def _page(shelf: Mapping[Any, T], limit: int, after: object) -> list[T]:
    """Newest first, behind `after`."""
    keys = list(shelf)[::-1]
    if after is not None:
        if after not in keys:
            raise InvalidInput(f"the cursor {after} is not known; start again without it")
        keys = keys[keys.index(after) + 1 :]
    return [shelf[key] for key in keys[:limit]]
