"""The Python client: one method per thing somebody may ask or do, the same over HTTP and in-process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from trueline.client import servers
from trueline.client.transports import HttpTransport, InProcessTransport, Transport
from trueline.errors import NotAuthenticated, Unavailable
from trueline.security import tokens
from trueline.settings import StateFolder
from trueline.web.api import problems
from trueline.web.api.calls import ApiRequest, Reason
from trueline.web.api.datasets import DatasetList
from trueline.web.api.events import EventList, Timeline
from trueline.web.api.gates import GateList, GateView
from trueline.web.api.incidents import AcknowledgeRequest, IncidentList, IncidentView
from trueline.web.api.performance import PerformanceView
from trueline.web.api.releases import ReleaseList, ReleaseRequest, ReleaseView, RollbackRequest, RollbackView
from trueline.web.api.replay import ReplayRequest, ReplayView
from trueline.web.api.runs import RunList, RunRequest, RunView
from trueline.web.api.staleness import StalenessView
from trueline.web.api.status import StatusView
from trueline.web.api.steps import LogsView, StepList, WhyCachedView
from trueline.web.api.versions import VersionList, VersionView
from trueline.web.api.why import WhyView

T = TypeVar("T", bound=msgspec.Struct)

ADDRESS = "TRUELINE_URL"
TIMEOUT_SECONDS = 30.0
REPLAY_SECONDS = 600.0
"""A step of replayed time answers when everything it set off is done, trainings included."""


class Client:
    """Talks to one control plane. Errors are those of `trueline.errors`, as the server met them."""

    def __init__(self, transport: Transport, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._transport = transport
        self._timeout = timeout

    @classmethod
    def connect(cls, state: StateFolder, *, timeout: float = TIMEOUT_SECONDS) -> Client:
        """The client of the server that runs on a state folder, or of the one that TRUELINE_URL names."""
        address = os.environ.get(ADDRESS)
        if not address:
            address = servers.need(state).control
        token = tokens.read(state.token)
        if token is None:
            raise NotAuthenticated(f"there is no token in {state.token}; set {tokens.VARIABLE} to the server's")
        return cls(HttpTransport(address, token), timeout=timeout)

    @classmethod
    def local(cls, project_file: Path, state: StateFolder, target: str | None = None) -> Client:
        """A client that does the work in this process, for when no server runs."""
        from trueline.wiring import open_services  # noqa: PLC0415 it imports the database and the engines

        return cls(InProcessTransport(open_services(project_file, state.root, target)))

    @staticmethod
    def reachable(state: StateFolder) -> bool:
        """Whether `connect` has somebody to talk to: a server on the state folder, or one named by TRUELINE_URL."""
        return bool(os.environ.get(ADDRESS)) or servers.running(state)

    @property
    def in_process(self) -> bool:
        return isinstance(self._transport, InProcessTransport)

    def settle(self) -> None:
        """Do what waits to be done, when no server does it."""
        self._transport.settle()

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- what somebody may ask -------------------------------------------------------------------------------------

    def status(self) -> StatusView:
        return self._get("/status", StatusView)

    def run(self, run_id: str) -> RunView:
        return self._get(f"/runs/{run_id}", RunView)

    def steps(self, run_id: str) -> StepList:
        return self._get(f"/runs/{run_id}/steps", StepList)

    def logs(self, run_id: str, *, step: str | None = None, after: str | None = None) -> LogsView:
        """What has been printed behind the cursor `after`, which is the `next` of the answer before."""
        return self._get(f"/runs/{run_id}/logs", LogsView, step=step, after=after)

    def why_cached(self, ref: str) -> WhyCachedView:
        return self._get(f"/why-cached/{ref}", WhyCachedView)

    def runs(self, *, limit: int = 50, after: str | None = None) -> RunList:
        return self._get("/runs", RunList, limit=limit, after=after)

    def version(self, number: int) -> VersionView:
        return self._get(f"/versions/{number}", VersionView)

    def versions(self, *, limit: int = 50, after: int | None = None) -> VersionList:
        return self._get("/versions", VersionList, limit=limit, after=after)

    def gate(self, gate_id: str) -> GateView:
        return self._get(f"/gates/{gate_id}", GateView)

    def gates(self, *, version: int | None = None, limit: int = 50, after: str | None = None) -> GateList:
        return self._get("/gates", GateList, version=version, limit=limit, after=after)

    def release(self, release_id: str) -> ReleaseView:
        return self._get(f"/releases/{release_id}", ReleaseView)

    def releases(self, *, version: int | None = None, limit: int = 50, after: str | None = None) -> ReleaseList:
        return self._get("/releases", ReleaseList, version=version, limit=limit, after=after)

    def events(self, *, after: int = 0, limit: int = 200, kind: str | None = None) -> EventList:
        return self._get("/events", EventList, after=after, limit=limit, kind=kind)

    def timeline(
        self, *, before: int | None = None, limit: int = 50, kinds: Sequence[str] = (), ref: str | None = None
    ) -> Timeline:
        """The log backwards, of these full kinds or all."""
        return self._get("/timeline", Timeline, before=before, limit=limit, kinds=",".join(kinds) or None, ref=ref)

    def performance(self, *, days: int = 366, until: date | None = None) -> PerformanceView:
        """What each event-time day lost, up to `until` or the newest."""
        return self._get("/performance", PerformanceView, days=days, until=None if until is None else str(until))

    def why(self, ref: str | int) -> WhyView:
        return self._get(f"/why/{ref}", WhyView)

    def incidents(self, *, limit: int = 50, after: str | None = None) -> IncidentList:
        return self._get("/incidents", IncidentList, limit=limit, after=after)

    def incident(self, incident_id: str) -> IncidentView:
        return self._get(f"/incidents/{incident_id}", IncidentView)

    def staleness(self) -> StalenessView:
        return self._get("/staleness", StalenessView)

    def datasets(self, *, limit: int = 50, after: int | None = None) -> DatasetList:
        return self._get("/datasets", DatasetList, limit=limit, after=after)

    def clock(self) -> ReplayView:
        return self._get("/replay", ReplayView)

    # ---- what somebody may do --------------------------------------------------------------------------------------

    def start_run(
        self,
        *,
        fit: str | None = None,
        params: Mapping[str, Any] | None = None,
        source: str | None = None,
        reason: str = "asked for",
        release: bool = True,
    ) -> RunView:
        asked = RunRequest(fit=fit, params=dict(params or {}), source=source, reason=reason, release=release)
        return self._post("/runs", asked, RunView)

    def resume(self, run_id: str, reason: str = "asked to go on") -> RunView:
        """Have a failed run go on: what its steps have finished stays."""
        return self._post(f"/runs/{run_id}/resume", Reason(reason), RunView)

    def approve(self, number: int, reason: str) -> VersionView:
        """Agree to the release of a version whose gate let it pass."""
        return self._post(f"/versions/{number}/approve", Reason(reason), VersionView)

    def waive(self, number: int, reason: str) -> VersionView:
        return self._post(f"/versions/{number}/waive", Reason(reason), VersionView)

    def start_release(self, version: int, reason: str) -> ReleaseView:
        return self._post("/releases", ReleaseRequest(version=version, reason=reason), ReleaseView)

    def promote(self, release_id: str, reason: str) -> ReleaseView:
        return self._post(f"/releases/{release_id}/promote", Reason(reason), ReleaseView)

    def roll_back(self, reason: str, *, version: int | None = None) -> RollbackView:
        return self._post("/rollback", RollbackRequest(reason=reason, version=version), RollbackView)

    def acknowledge(self, incident_id: str, reason: str = "seen") -> IncidentView:
        return self._post(f"/incidents/{incident_id}/acknowledge", AcknowledgeRequest(reason), IncidentView)

    def trigger(self, kind: str, reason: str) -> RunView:
        return self._post("/triggers", {"kind": kind, "reason": reason}, RunView)

    def replay(self, now: datetime, *, timeout: float = REPLAY_SECONDS) -> ReplayView:
        """Move replayed time to `now`; returns when control has nothing left to do there."""
        return self._post("/replay", ReplayRequest(now), ReplayView, timeout=timeout)

    # ---- the wire --------------------------------------------------------------------------------------------------

    def _get(self, path: str, answer: type[T], /, **query: int | str | None) -> T:
        given = {name: str(value) for name, value in query.items() if value is not None}
        return self._exchange(ApiRequest("GET", f"/api/v1{path}", given), answer, self._timeout)

    def _post(self, path: str, body: object, kind: type[T], *, timeout: float | None = None) -> T:
        request = ApiRequest("POST", f"/api/v1{path}", {}, msgspec.json.encode(body))
        return self._exchange(request, kind, timeout or self._timeout)

    def _exchange(self, request: ApiRequest, kind: type[T], timeout: float) -> T:
        answer = self._transport.send(request, timeout)
        try:
            if answer.status >= 400:
                raise problems.as_error(msgspec.json.decode(answer.body, type=problems.Problem))
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.DecodeError as strange:
            raise Unavailable(
                f"the answer to {request.method} {request.path} (status {answer.status}) is not trueline's; "
                f"is something else listening there? ({strange})"
            ) from strange
