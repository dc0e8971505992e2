"""The path of one prediction, free of any transport: check, route, batch, score, journal, answer.

A call comes in as columns; it is refused with an error of the caller's (and then was never routed, so it is not
journalled), or it becomes a request of exactly one version. When that version's batch has been scored, one record per
request is written to the journal in one `write()`, and only then are the answers given. When the disk is full they are
given all the same, marked as unrecorded, and counted: callers need predictions, and nothing is promised of these. What
a version could not answer goes to the champion's lane; the request's one record then says `fell_back` and why.

After its answer a routed request is owed a shadow score by every other version of the table, so that losses can be
paired when labels come.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

from trueline.errors import InvalidInput, NotFound, NotRecorded, Overloaded, TruelineError, Unavailable
from trueline.journal.records import CrashRecord, LabelRecord, PredictionRecord, Record, ShadowRecord
from trueline.journal.segments import Writer
from trueline.serving.limits import Limits
from trueline.serving.metrics import Metrics
from trueline.serving.runners import Scored
from trueline.serving.scoreboard import Unfinished
from trueline.serving.table import Loaded, Versions

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Call:
    """What a caller asks for."""

    columns: dict[str, list[Any]]
    rows: int
    model: str | None = None  # None: whichever is served here
    version: int | None = None  # named by the caller: pinned to it
    client_id: str | None = None  # echoed, and hashed when there is no stick_to
    event_us: int | None = None  # None: now


@dataclass(slots=True)
class Answer:
    request_id: str
    model: str
    version: int  # that answered
    outputs: list[float]
    client_id: str | None
    recorded: bool = True  # else the journal could not be written, and no label will find it


Reply = Callable[[Answer | TruelineError], None]


@dataclass(slots=True, eq=False)
class _Request:
    """A call on its way; what a lane needs is `columns`, `rows` and `event_us`."""

    columns: dict[str, list[Any]]
    rows: int
    event_us: int
    request_id: str
    received_us: int
    received_ns: int
    client_id: str | None
    model: str
    epoch: int
    release: str | None
    version: int
    arm: str
    weight: float
    unit: str
    others: tuple[Loaded, ...]  # that owe a shadow score
    champion: Loaded | None  # that may answer instead
    reply: Reply
    started_ns: int = 0
    failure: Scored | None = None  # of `version`, while the champion is asked


@dataclass(slots=True)
class Journalled:
    """Labels and predictions acknowledged by this process, for `status`."""

    predictions: int = 0
    shadows: int = 0
    labels: int = 0


@dataclass
class DataPlane:
    journal: Writer
    versions: Versions
    metrics: Metrics
    limits: Limits
    prefix: str  # of request ids; unique for each start of each replica
    now_us: Callable[[], int] = field(default=lambda: time.time_ns() // 1000)
    counts: Journalled = field(default_factory=Journalled)
    journal_problem: str | None = None  # while it cannot be written
    _sequence: int = 0
    _label_us: int = 0

    def submit(self, call: Call, reply: Reply) -> None:
        """Take a call on; raises the caller's mistakes at once and gives everything else to `reply`, once."""
        received_ns = perf_counter_ns()
        standing = self.versions.standing
        table = standing.table
        if call.model is not None and call.model != table.model:
            raise NotFound(f"no model '{call.model}' is served here; this server has '{table.model}'")
        if self.metrics.in_progress >= self.limits.waiting:
            raise Overloaded(f"{self.limits.waiting} requests are being worked on; try again in a second")
        self._sequence += 1
        request_id = f"{self.prefix}{self._sequence:x}"
        unit = _unit(call, table.stick_to, request_id)
        if call.version is not None:
            loaded, arm, weight = self.versions.pinned(call.version), "pinned", 1.0
            others: tuple[Loaded, ...] = ()
        else:
            choice = standing.split.choose(unit)
            if choice is None:
                raise Unavailable("no version of the model is released yet; release one and try again")
            loaded, arm, weight = standing.by_version[choice.version], choice.arm, choice.weight
            others = standing.others[choice.version]
        for column in loaded.checks.check(call.columns, call.rows):
            self.metrics.doubtful[loaded.version, column] += 1
        received_us = self.now_us()
        self.metrics.in_progress += 1
        loaded.lane.add(
            _Request(
                columns=call.columns,
                rows=call.rows,
                event_us=received_us if call.event_us is None else call.event_us,
                request_id=request_id,
                received_us=received_us,
                received_ns=received_ns,
                client_id=call.client_id,
                model=table.model,
                epoch=table.epoch,
                release=table.release,
                version=loaded.version,
                arm=arm,
                weight=weight,
                unit=unit,
                others=others,
                champion=standing.champion if arm != "pinned" else None,
                reply=reply,
            )
        )

    def accept_labels(self, labels: Sequence[LabelRecord]) -> None:
        """Journal labels; when this returns they are acknowledged. Refused ones may be sent again: none counts twice."""
        if self._record(labels) < len(labels):
            raise Unavailable(f"the labels were not accepted: {self.journal_problem}, then send them again")
        self.counts.labels += len(labels)
        self.metrics.labels += len(labels)

    def next_label_us(self) -> int:
        """When the next label is accepted; labels keep their order, also when the clock is put back."""
        self._label_us = max(self._label_us + 1, self.now_us())
        return self._label_us

    def next_label_id(self) -> str:
        self._sequence += 1
        return f"{self.prefix}{self._sequence:x}-label"

    def record_crash(self, unfinished: Unfinished) -> None:
        """Journal what the process before this one was scoring when it died."""
        error = f"the serving process died while it was scoring version {unfinished.version}"
        record = CrashRecord(unfinished.version, unfinished.event_us, self.now_us(), unfinished.requests, error)
        self._record([record])

    def _record(self, records: Sequence[Record]) -> int:
        """Append to the journal; how many records of the batch are in it. Trouble is said when it begins and ends."""
        try:
            self.journal.append(records)
        except NotRecorded as problem:
            if self.journal_problem is None:
                log.warning("%s; predictions are answered all the same, unrecorded, and labels refused", problem)
            self.journal_problem = str(problem)
            return problem.kept
        if self.journal_problem is not None:
            log.warning("the journal is written again; %d predictions went unrecorded so far", self.metrics.unrecorded)
            self.journal_problem = None
        return len(records)

    def settle(self, version: int, requests: Sequence[_Request], scores: Sequence[Scored], started_ns: int) -> None:
        """A batch came back: hand its failures to the champion, journal the rest, answer."""
        records: list[Record] = []
        finished: list[tuple[_Request, Scored, list[float] | None]] = []
        for request, scored in zip(requests, scores, strict=True):
            if request.started_ns == 0:
                request.started_ns = started_ns
            if scored.values is None and self._falls_back(request, version, scored):
                continue
            outputs = None if scored.values is None else scored.values.tolist()
            records.append(_record(request, version, scored, outputs))
            finished.append((request, scored, outputs))
        if not records:
            return
        kept = self._record(records)
        self.counts.predictions += kept
        self.metrics.unrecorded += len(records) - kept
        for number, (request, scored, outputs) in enumerate(finished):
            if outputs is None:
                self._answer(request, version, _failure(request, version, scored, recorded=number < kept))
            else:
                recorded = number < kept
                answer = Answer(request.request_id, request.model, version, outputs, request.client_id, recorded)
                self._answer(request, version, answer)
            if number < kept:  # a pair needs both
                self._owe_shadows(request, version)

    def settle_shadows(
        self, version: int, requests: Sequence[_Request], scores: Sequence[Scored], started_ns: int
    ) -> None:
        """Shadow scores came back: journal them."""
        del started_ns
        records = [
            ShadowRecord(
                request_id=request.request_id,
                event_us=request.event_us,
                received_us=request.received_us,
                version=version,
                release=request.release,
                outcome=scored.outcome,
                exec_us=scored.exec_us,
                rows=request.rows,
                outputs=None if scored.values is None else scored.values.tolist(),
                error=scored.error,
            )
            for request, scored in zip(requests, scores, strict=True)
        ]
        self._append_shadows(version, records)

    def _append_shadows(self, version: int, records: list[ShadowRecord]) -> None:
        kept = self._record(records)
        self.metrics.shadow_dropped[version] += len(records) - kept
        self.counts.shadows += kept
        self.metrics.shadowed[version] += kept

    def _falls_back(self, request: _Request, version: int, scored: Scored) -> bool:
        """Give a request that its version could not answer to the champion, if that is another one and can take it."""
        self.metrics.failures[version, scored.outcome] += 1
        champion = request.champion
        if request.failure is not None or champion is None or champion.version == version:
            return False
        try:
            champion.checks.check(request.columns, request.rows)
        except InvalidInput:
            return False
        request.failure = scored
        champion.lane.add(request)
        return True

    def _owe_shadows(self, request: _Request, answered_by: int) -> None:
        for other in request.others:
            if other.version == answered_by:
                continue
            try:
                other.checks.check(request.columns, request.rows)
            except InvalidInput as problem:
                scored = Scored("failed", None, f"it cannot take this request: {problem}", 0)
                self.settle_shadows(other.version, [request], [scored], 0)
            else:
                other.lane.add_shadow(request)

    def _answer(self, request: _Request, version: int, answer: Answer | TruelineError) -> None:
        metrics = self.metrics
        metrics.in_progress -= 1
        code = answer.status if isinstance(answer, TruelineError) else 200
        metrics.requests[request.model, str(version), request.arm, code] += 1
        metrics.queue[version].observe((request.started_ns - request.received_ns) / 1e9)
        request.reply(answer)
        metrics.duration[version].observe((perf_counter_ns() - request.received_ns) / 1e9)


def _unit(call: Call, stick_to: str | None, request_id: str) -> str:
    """What decides the arm: the sticky key, else the caller's own id for the request, else ours."""
    if stick_to is not None:
        values = call.columns.get(stick_to)
        if values and values[0] is not None:
            return str(values[0])
    return call.client_id or request_id


def _record(request: _Request, version: int, scored: Scored, outputs: list[float] | None) -> PredictionRecord:
    failure = request.failure
    if failure is None:
        outcome, error, own = scored.outcome, scored.error, scored
    elif outputs is None:
        outcome, error, own = failure.outcome, f"{failure.error}; version {version} failed too: {scored.error}", failure
    else:
        outcome, error, own = "fell_back", f"{failure.outcome}: {failure.error}", failure
    return PredictionRecord(
        request_id=request.request_id,
        event_us=request.event_us,
        received_us=request.received_us,
        model=request.model,
        epoch=request.epoch,
        release=request.release,
        version=request.version,
        arm=request.arm,
        weight=request.weight,
        unit=request.unit,
        outcome=outcome,
        answered_by=None if outputs is None else version,
        queue_us=(request.started_ns - request.received_ns) // 1000,
        exec_us=own.exec_us,
        rows=request.rows,
        features=request.columns,
        outputs=outputs,
        error=error,
    )


def _failure(request: _Request, version: int, scored: Scored, *, recorded: bool) -> TruelineError:
    failure = request.failure
    what = f"version {request.version} of '{request.model}' could not answer: {(failure or scored).error}"
    if failure is not None:
        what += f"; nor could version {version}: {scored.error}"
    if scored.separable or scored.outcome == "invalid_output":
        return TruelineError(
            f"{what}; the request is " + (f"recorded as {request.request_id}" if recorded else "unrecorded")
        )
    return Unavailable(f"{what}; try again")
