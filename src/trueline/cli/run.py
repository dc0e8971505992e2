"""`trueline run`: start a training and stay with it until its gate has decided."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from trueline.cli.options import Session, with_session
from trueline.cli.progress import Progress, drawn
from trueline.errors import Conflict, GateFailed, GateInconclusive, TrainingFailed, TruelineError, Unavailable

if TYPE_CHECKING:
    from trueline.client import Client
    from trueline.web.api.gates import GateView
    from trueline.web.api.releases import ReleaseView
    from trueline.web.api.runs import RunView

POLL_SECONDS = 0.2
RELEASE_SECONDS = 15.0
"""How long a release may take to begin; behind another one it waits longer, and that is said and not waited for."""


class Parameter(click.ParamType[tuple[str, Any]]):
    """`name=value`; the value is JSON where it can be, text otherwise."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        name, equals, text = str(value).partition("=")
        if not equals or not name:
            self.fail(f"{value!r} should read name=value", param, ctx)
        try:
            return name, json.loads(text)
        except json.JSONDecodeError:
            return name, text


@dataclass
class Followed:
    """What has become of a run so far."""

    run: RunView
    gate: GateView | None = None
    release: ReleaseView | None = None


@click.command
@click.option("--fit", metavar="FILE:FUNCTION", help="Another fit function than the project file's.")
@click.option("-p", "--param", "params", type=Parameter(), multiple=True, help="A parameter of fit; may be repeated.")
@click.option("--reason", default="asked for", show_default=True, help="Kept with the run.")
@click.option("--release/--no-release", default=True, show_default=True, help="Release it when its gate passes.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until the gate has decided.")
@click.option("--timeout", type=click.FloatRange(0), default=None, help="Give up waiting after so many seconds.")
@click.option("--resume", metavar="RUN", default=None, help="Have this failed run go on instead of starting one.")
@with_session
def run(
    session: Session,
    *,
    fit: str | None,
    resume: str | None,
    params: tuple[tuple[str, Any], ...],
    reason: str,
    release: bool,
    wait: bool,
    timeout: float | None,
) -> None:
    """Train a candidate and follow it until its gate has decided.

    Exit code 3 when the gate fails, 4 when it cannot tell yet.

    \b
    Examples:
      trueline run
      trueline run --fit leaky.py:fit --no-release
      trueline run -p max_depth=4 -p learning_rate=0.1 --json
      trueline run --resume run-7
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    if resume is not None and (fit is not None or params):
        raise click.UsageError("a run that goes on keeps its function and parameters: leave --fit and --param out")
    with session.client() as client:
        seen = client.status().last_event
        if resume is not None:
            started = client.resume(resume, reason)
        else:
            started = client.start_run(fit=fit, params=dict(params), reason=reason, release=release)
        session.out.say(f"{started.id}: {started.entry}")
        followed = _Following(client, session, seen, timeout).until_decided(started) if wait else Followed(started)
    _tell_end(session, followed, wait=wait)
    conclude(followed, wait=wait)


@click.command
@click.argument("run")
@click.option("--reason", default="asked to go on", show_default=True, help="Kept with the run.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until the gate has decided.")
@with_session
def resume(session: Session, run: str, reason: str, *, wait: bool) -> None:
    """Have a failed run go on from where it failed.

    It keeps its rows and its parameters; what its steps finished is not done again, unless its code changed.

    \b
    Examples:
      trueline resume run-7
      trueline resume run-7 --reason "the typo in fit_b is mended" --json
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    with session.client() as client:
        seen = client.status().last_event
        started = client.resume(run, reason)
        session.out.say(f"{started.id}: {started.entry}")
        followed = _Following(client, session, seen, None).until_decided(started) if wait else Followed(started)
    _tell_end(session, followed, wait=wait)
    conclude(followed, wait=wait)


def _tell_end(session: Session, followed: Followed, *, wait: bool) -> None:
    """What became of it, on stdout."""
    if session.out.as_json:
        session.out.json({"run": followed.run, "gate": followed.gate, "release": followed.release})
    elif followed.gate is not None:
        session.out.echo(f"version {followed.gate.version}: gate {followed.gate.verdict}: {followed.gate.reason}")
        if followed.release is not None:
            session.out.echo(f"{followed.release.id}: {followed.release.state}: {followed.release.reason}")
    elif not wait:
        session.out.echo(followed.run.id)


def conclude(followed: Followed, *, wait: bool) -> None:
    """The exit code says how it ended."""
    if not wait:
        return
    run, gate = followed.run, followed.gate
    if run.state == "failed":
        raise TrainingFailed(f"{run.id} failed: {run.error}")
    if run.state == "cancelled":
        raise Conflict(f"{run.id} was cancelled: {run.error or run.reason}")
    if gate is None or gate.verdict in {None, "pass"} or gate.waived_by is not None:
        return
    told = f"the gate of version {gate.version} says {gate.verdict}: {gate.reason}"
    raise {"fail": GateFailed, "inconclusive": GateInconclusive}.get(str(gate.verdict), TruelineError)(told)


def follow(client: Client, session: Session, run_id: str, *, wait: bool) -> Followed:
    """Stay with a run that somebody started until its gate has decided."""
    seen = client.status().last_event
    started = client.run(run_id)
    return _Following(client, session, seen, None).until_decided(started) if wait else Followed(started)


class _Work:
    """The work done in this process while it is watched; Ctrl-C need not wait for it, and what it began goes on later."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="work", daemon=True)
        self._thread.start()

    def done(self) -> bool:
        """Whether it has ended; raises what ended it early."""
        if self._problem is not None:
            raise self._problem
        return not self._thread.is_alive()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as problem:  # noqa: BLE001  raised where it is watched
            self._problem = problem


class _Following:
    """Watches one run through its gate to the start of its release, telling what happens on the way."""

    def __init__(self, client: Client, session: Session, seen: int, timeout: float | None) -> None:
        self._client = client
        self._session = session
        self._seen = seen
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._work: _Work | None = None
        self._progress = Progress(None)

    def until_decided(self, started: RunView) -> Followed:
        """Watch it; where no server does the work, it is done here meanwhile."""
        with drawn(self._session.out) as self._progress:
            if not self._client.in_process:
                return self._until_decided(started)
            self._work = _Work(self._client.settle)
            followed = self._until_decided(started)
            while not self._work.done():  # the tracking store is told last, and there is nobody else to tell it
                time.sleep(POLL_SECONDS)
            return followed

    def _until_decided(self, started: RunView) -> Followed:
        followed = Followed(started)
        while (state := self._client.run(started.id)).state in {"queued", "running"}:
            self._draw(started)
            self._pause(f"{started.id} is still {state.state}")
        self._draw(started)
        followed.run = state
        if state.version is None:
            self._tell()
            return followed
        while (gate := self._gate(state.version)) is None or gate.state != "decided":
            self._pause(f"the gate of version {state.version} has not decided")
        followed.gate = gate
        if state.release and (gate.verdict == "pass" or gate.waived_by is not None):
            followed.release = self._release(state.version)
        self._tell()
        return followed

    def _gate(self, version: int) -> GateView | None:
        return next(iter(self._client.gates(version=version, limit=1).items), None)

    def _release(self, version: int) -> ReleaseView | None:
        patience = time.monotonic() + (0 if self._client.in_process else RELEASE_SECONDS)
        while True:
            found = next(iter(self._client.releases(version=version, limit=1).items), None)
            if found is not None and found.state != "pending":
                return found
            if time.monotonic() >= patience and (self._work is None or self._work.done()):
                self._session.out.say(f"the release of version {version} has not started yet; `trueline status` tells")
                return found
            self._pause(f"the release of version {version} has not started")

    def _pause(self, waiting: str) -> None:
        self._tell()
        if self._deadline is not None and time.monotonic() > self._deadline:
            goes_on = "with the next command" if self._client.in_process else "without this command"
            raise Unavailable(f"{waiting} after {self._timeout:g} s; it goes on {goes_on}")
        if self._work is not None and self._work.done():
            self._work = _Work(self._client.settle)  # what came meanwhile, such as a run that is tried again later
        time.sleep(POLL_SECONDS)

    def _draw(self, run: RunView) -> None:
        if self._progress.drawing:
            self._progress.show(self._client.steps(run.id).items)

    def _tell(self) -> None:
        """Say what happened since the last look."""
        told = {"run", "version", "gate", "release", "dataset"} | ({"step"} if not self._progress.drawing else set())
        page = self._client.events(after=self._seen)
        self._seen = page.next
        for event in page.items:
            if event.kind.split(".")[0] in told:
                self._session.out.say(f"  {event.kind} {event.ref}: {event.reason}")
