"""The API's services over this machine's state: every method one transaction of `control`, or a wait for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, select

from trueline.clock import from_us
from trueline.control import (
    approvals,
    blocks,
    clocks,
    endpoints,
    events,
    gates,
    incidents,
    releases,
    runs,
    status,
    steps,
)
from trueline.control import why as reasons
from trueline.control.context import Context
from trueline.domain.datasets import DatasetVersion
from trueline.domain.events import Event
from trueline.domain.gates import Gate
from trueline.domain.incidents import Incident
from trueline.domain.releases import Release, ReleaseState
from trueline.domain.runs import Purpose, Run, RunState
from trueline.domain.steps import Step
from trueline.domain.versions import Version
from trueline.errors import Conflict, InvalidInput, NotFound, Unavailable
from trueline.pipelines import logs, schedule, why_cached
from trueline.sockets import ring
from trueline.store import rows, tables
from trueline.store.engine import Tx
from trueline.wiring.controllers import Controllers

REPLAY_SECONDS = 600.0
ENDED = (RunState.succeeded, RunState.failed, RunState.cancelled)
MOST_DIGITS = 9  # of a version's number

T = TypeVar("T")


@dataclass(frozen=True)
class Rollback:
    version: int
    epoch: int
    reason: str
    release: str | None
    rollback_ms: float | None


class LocalServices:
    """Implements `web.api.services.Services` for one project."""

    def __init__(self, context: Context, controllers: Controllers, *, replaying: bool) -> None:
        self._context = context
        self._store = context.store
        self._project = context.project.name
        self._controllers = controllers
        self._replaying = replaying

    @property
    def replaying(self) -> bool:
        return self._replaying

    def unready(self) -> str | None:
        try:
            with self._store.read() as tx:
                endpoints.get(tx, self._project)
        except Unavailable as problem:
            return str(problem)
        return None

    def now(self) -> datetime:
        return self._context.clock.now()

    def status(self) -> status.Status:
        with self._store.read() as tx:
            idle = self._controllers.nothing_to_do(tx)
            freshness = self._freshness(tx)
            found = status.take(
                tx,
                self._project,
                idle=idle,
                replaying=self._replaying,
                freshness=freshness,
                target=self._context.project.target,
            )
        recording = self._controllers.watch.troubles()  # the servers know, also while nothing can be written here
        return replace(found, recording=recording)

    def _freshness(self, tx: Tx) -> object:
        """What the rehearsal says; while it has nothing to say, the command line starts without NumPy and SciPy."""
        if not blocks.monitor_state(tx, self._project).get("rehearsal"):
            return None
        from trueline.monitoring import views  # noqa: PLC0415

        return views.freshness(tx, self._context)

    def start_run(
        self, *, fit: str | None, params: Mapping[str, Any], source: str | None, release: bool, reason: str, actor: str
    ) -> Run:
        if source is not None:
            raise InvalidInput("another source for one run is not supported; change data.source in the project file")
        with self._store.begin() as tx:
            run = schedule.start_manual(
                tx, self._context, entry=fit, params=dict(params), release=release, actor=actor, reason=reason
            )
        self._wake()
        return run

    def run(self, run_id: str) -> Run:
        return self._get(Run, run_id)

    def resume(self, run_id: str, *, reason: str, actor: str) -> Run:
        run = self.run(run_id)
        with self._store.begin() as tx:
            run = runs.resume(tx, run, actor=actor, reason=reason)
        self._wake()
        return run

    def steps(self, run_id: str) -> Sequence[Step]:
        run = self.run(run_id)
        with self._store.read() as tx:
            return steps.of_run(tx, run.id)

    def logs(self, run_id: str, *, step: str | None, after: str | None) -> logs.Logs:
        run = self.run(run_id)  # before the look: what ended then prints nothing any more
        names = [one.name for one in self.steps(run_id)]
        ended = run.state in ENDED
        return logs.read(self._context.folder.run(run.id), names, step=step, after=after, ended=ended)

    def why_cached(self, ref: str) -> why_cached.WhyCached:
        run = self.run(ref.partition(":")[0])
        with self._store.read() as tx:
            if ":" in ref:
                return why_cached.of_step(tx, self._context, steps.get(tx, ref))
            return why_cached.of_run(tx, self._context, run)

    def runs(self, *, limit: int, after: str | None) -> Sequence[Run]:
        return self._list(Run, limit, after)

    def version(self, number: int) -> Version:
        with self._store.read() as tx:
            return runs.version(tx, self._project, number)

    def versions(self, *, limit: int, after: int | None) -> Sequence[Version]:
        box = tables.versions
        where = [box.c.project == self._project]
        if after is not None:
            where.append(box.c.number < after)
        with self._store.read() as tx:
            return rows.find(tx, Version, *where, newest=True, limit=limit)

    def waive(self, number: int, *, reason: str, actor: str) -> Version:
        with self._store.begin() as tx:
            policy = self._context.project.gates.approve
            gates.waive(tx, self._project, number, actor=actor, reason=reason, approve=policy)
            version = runs.version(tx, self._project, number)
        self._wake()
        return version

    def approve(self, number: int, *, reason: str, actor: str) -> Version:
        with self._store.begin() as tx:
            policy = self._context.project.gates.approve
            approvals.give(tx, self._project, number, policy, actor=actor, reason=reason)
            version = runs.version(tx, self._project, number)
        self._wake()
        return version

    def gate(self, gate_id: str) -> Gate:
        return self._get(Gate, gate_id)

    def gates(self, *, version: int | None, limit: int, after: str | None) -> Sequence[Gate]:
        return self._list(Gate, limit, after, version=version)

    def release(self, release_id: str) -> Release:
        return self._get(Release, release_id)

    def releases(self, *, version: int | None, limit: int, after: str | None) -> Sequence[Release]:
        return self._list(Release, limit, after, version=version)

    def start_release(self, version: int, *, reason: str, actor: str) -> Release:
        with self._store.begin() as tx:
            gate = rows.first(
                tx, Gate, tables.gates.c.project == self._project, tables.gates.c.version == version, newest=True
            )
            box = tables.releases
            last = rows.first(tx, Release, box.c.project == self._project, box.c.version == version, newest=True)
            sent_back = last is not None and last.state is ReleaseState.rolled_back
            vouched = gate is not None and gate.verdict == "pass" and not sent_back
            release = releases.request(tx, self._project, version, vouched=vouched, actor=actor, reason=reason)
        self._wake()
        return release

    def promote(self, release_id: str, *, reason: str, actor: str) -> Release:
        with self._store.begin() as tx:
            release = rows.get(tx, Release, release_id)
            live = endpoints.live_release(tx, self._project)
            scene, by_hand = self._context.scene, f"promoted by hand: {reason}"
            if live is not None and live.id != release.id:
                if live.state is not ReleaseState.promoted or release.state is not ReleaseState.pending:
                    raise Conflict(f"{live.id} is under way; promote or roll back that one first")
                over = f"{release.id} of version {release.version} is {by_hand}: the watch over this one ends"
                releases.finish(tx, scene, live, actor=actor, reason=over)
            releases.promote(tx, scene, release, actor=actor, reason=by_hand)
        self._wake()
        return self.release(release_id)

    def roll_back(self, *, version: int | None, reason: str, actor: str) -> Rollback:
        with self._store.begin() as tx:
            release = self._to_undo(tx, version)
            releases.roll_back(tx, self._context.scene, release, actor=actor, reason=f"rolled back by hand: {reason}")
        self._controllers.deliver_now()
        with self._store.read() as tx:
            done = rows.get(tx, Release, release.id)
            endpoint = endpoints.get(tx, self._project)
        champion = endpoint.champion
        if champion is None:
            raise Conflict("nothing serves; there is nothing to roll back")
        return Rollback(champion, endpoint.table.epoch, reason, done.id, done.rollback_ms)

    def _to_undo(self, tx: Any, version: int | None) -> Release:
        live = endpoints.live_release(tx, self._project)
        if live is None:
            box = tables.releases
            live = rows.first(
                tx, Release, box.c.project == self._project, box.c.state == ReleaseState.done, newest=True
            )
            hint = "no release is under way or watched"
            if live is None:
                raise Conflict(f"{hint}, and none was ever finished; there is nothing to roll back")
            raise Conflict(
                f"{hint}; to go back to version {live.previous}, release it: trueline release {live.previous}"
            )
        if version is not None and live.previous is not None and version != live.previous:
            raise Conflict(f"{live.id} can only go back to version {live.previous}; release version {version} instead")
        return live

    def events(self, *, after: int, limit: int, kind: str | None) -> Sequence[Event]:
        with self._store.read() as tx:
            return events.after(tx, self._project, after, limit=limit, kind=kind)

    def timeline(
        self,
        *,
        before: int | None,
        limit: int,
        kinds: Sequence[str] | None,
        ref: str | None = None,
        since: datetime | None = None,
    ) -> Sequence[Event]:
        with self._store.read() as tx:
            return events.newest(tx, self._project, before=before, limit=limit, kinds=kinds, ref=ref, since=since)

    def newest_event(self) -> int:
        with self._store.read() as tx:
            return events.last_id(tx)

    def performance(self, *, days: int, until: date | None) -> object:
        from trueline.monitoring import curve  # noqa: PLC0415 it brings NumPy and SciPy

        with self._store.read() as tx:
            return curve.performance(tx, self._context, days=days, until=until)

    def needs(self, release_id: str) -> str | None:
        from trueline.releases import loop  # noqa: PLC0415 likewise

        with self._store.read() as tx:
            return loop.needs(self._context, rows.get(tx, Release, release_id), tx.now)

    def why(self, ref: str) -> reasons.Why:
        with self._store.read() as tx:
            number_said = ref.removeprefix("v")
            if number_said.isascii() and number_said.isdigit() and len(number_said) <= MOST_DIGITS:
                number = int(number_said)
                version = runs.version(tx, self._project, number)
                found = tuple(reasons.of_version(tx, self._project, number))
                return reasons.Why(ref, "version", f"version {number} comes from {version.run}", found)
            noun = ref.split("-", maxsplit=1)[0]
            if noun == "run":
                run = rows.get(tx, Run, ref)
                if run.version is not None:
                    found = tuple(reasons.of_version(tx, self._project, run.version))
                else:
                    found = tuple(reasons.of_run(tx, run))
                return reasons.Why(ref, "run", f"{ref} {run.state}: {run.error or run.reason}", found)
            if noun == "release":
                return reasons.of_release(tx, rows.get(tx, Release, ref))
            if noun == "incident":
                incident = rows.get(tx, Incident, ref)
                return reasons.of_incident(tx, incident)
            if noun == "gate":
                return reasons.of_gate(tx, rows.get(tx, Gate, ref))
        return self._why_prediction(ref)

    def _why_prediction(self, ref: str) -> reasons.Why:
        """In no transaction while the table is searched: PostgreSQL ends one that stands still for so long."""
        from trueline.data import predictions  # noqa: PLC0415 it brings Polars and delta-rs

        table = self._context.storage.table("predictions")
        found = predictions.find(table, ref)
        if found is None:
            self._controllers.ship()
            found = predictions.find(table, ref)
        if found is None:
            raise NotFound(
                f"there is no prediction {ref}, nor a run, version, release or gate of that id; "
                "prediction ids are in the server's answers (prediction_ids)"
            )
        version = int(found["answered_by"] or found["version"])
        arm = f"routed as {found['arm']} with weight {found['weight']:.0%}"
        at = from_us(int(found["event_us"]))
        link = reasons.Link(
            "prediction",
            ref,
            f"answered {found['prediction']} by version {version}, {arm}, at epoch {found['epoch']}",
            at,
            {name: found[name] for name in ("features", "outcome", "exec_us", "release", "unit", "error")},
        )
        with self._store.read() as tx:
            links = (link, *reasons.of_version(tx, self._project, version))
        return reasons.Why(ref, "prediction", f"{ref} was answered by version {version}, {arm}", links)

    def incidents(self, *, limit: int, after: str | None) -> Sequence[Incident]:
        return self._list(Incident, limit, after)

    def incident(self, incident_id: str) -> Incident:
        return self._get(Incident, incident_id)

    def acknowledge(self, incident_id: str, *, reason: str, actor: str) -> Incident:
        with self._store.begin() as tx:
            return incidents.acknowledge(tx, incident_id, actor=actor, reason=reason)

    def staleness(self) -> object:
        from trueline.monitoring import views  # noqa: PLC0415 it brings NumPy and SciPy

        with self._store.read() as tx:
            return views.staleness(tx, self._context)

    def datasets(self, *, limit: int, after: int | None) -> Sequence[DatasetVersion]:
        box = tables.datasets
        where: list[ColumnElement[bool]] = [box.c.project == self._project]
        if after is not None:
            where.append(box.c.number < after)
        with self._store.read() as tx:
            return rows.find(tx, DatasetVersion, *where, newest=True, limit=limit)

    def trigger(self, kind: str, *, reason: str, actor: str) -> Run:
        if kind not in {Purpose.manual, Purpose.rehearsal}:
            raise InvalidInput(f"a trigger is manual or rehearsal, not {kind}")
        with self._store.begin() as tx:
            if kind == Purpose.manual:
                run = schedule.start_manual(
                    tx, self._context, entry=None, params={}, release=True, actor=actor, reason=reason
                )
            else:
                run = schedule.start_refit(tx, self._context, purpose=Purpose.rehearsal, actor=actor, reason=reason)
        self._wake()
        return run

    def replay(self, now: datetime) -> None:
        with self._store.begin() as tx:
            clocks.set_replayed(tx, now)
        self._wake()
        self._controllers.wait_idle(now, REPLAY_SECONDS)

    def next_due(self) -> datetime | None:
        """When control has something to do next, as far as is known now; the driver need not stop before."""
        return self._controllers.next_due

    def work_until_idle(self) -> None:
        from trueline.wiring.working import Worker  # noqa: PLC0415 it brings every engine

        with_worker = Worker(self._context)
        try:
            while with_worker.step() or self._controllers.step():
                pass
            with_worker.finish_tracking()
        finally:
            with_worker.close()

    def close(self) -> None:
        self._controllers.close()
        self._store.close()

    def _wake(self) -> None:
        self._controllers.disturb()
        ring(self._context.folder.sockets, "*")

    def _get(self, noun: type[T], row_id: str) -> T:
        with self._store.read() as tx:
            return rows.get_where(
                tx,
                noun,
                f"{noun.__name__.lower()} {row_id}",
                rows.TABLES[noun].c.id == row_id,
                rows.TABLES[noun].c.project == self._project,
            )

    def _list(self, noun: type[T], limit: int, after: str | None, *, version: int | None = None) -> list[T]:
        table = rows.TABLES[noun]
        order = table.c.number if "number" in table.c else table.c.opened_at
        where: list[ColumnElement[bool]] = [table.c.project == self._project]
        if version is not None:
            where.append(table.c.version == version)
        with self._store.read() as tx:
            if after is not None:
                edge = tx.execute(select(order).where(table.c.id == after)).scalar()
                if edge is None:
                    raise InvalidInput(f"the cursor {after} is not known; start again without it")
                where.append(order < edge)
            return rows.find(tx, noun, *where, newest=True, limit=limit)
