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
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import msgspec
from msgspec.structs import astuple

from trueline.errors import InvalidInput, NotFound, NotRecorded, Overloaded, TruelineError, Unavailable
from trueline.journal.records import LabelRecord, Outcome, PredictionRecord, Record, ShadowRecord
from trueline.journal.segments import Writer
from trueline.serving.batching import Share
from trueline.serving.limits import Limits
from trueline.serving.metrics import Metrics
from trueline.serving.plain import Plain, Row, Tuples
from trueline.serving.table import Loaded, Standing, Versions

log = logging.getLogger(__name__)

OK = 200


class Call(msgspec.Struct):
    """What a caller asks for: columns, or rows that were decoded as plain ones."""

    columns: dict[str, list[Any]]
    rows: int
    model: str | None = None  # None: whichever is served here
    version: int | None = None  # named by the caller: pinned to it
    client_id: str | None = None  # echoed, and hashed when there is no stick_to
    event_us: int | None = None  # None: now
    plain_rows: list[Row] | None = None  # then `columns` is empty until somebody needs it
    plain: Plain | None = None  # that decoded them
    request_id: str | None = None  # of a request that may be sent again; None: one of ours


class Answer(msgspec.Struct):
    request_id: str
    model: str
    version: int  # that answered
    outputs: list[float]
    client_id: str | None
    recorded: bool = True  # else the journal could not be written, and no label will find it


Reply = Callable[[Answer | TruelineError], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """What all requests that take one route of one table have in common."""

    loaded: Loaded
    model: str
    epoch: int
    release: str | None
    version: int
    arm: str
    weight: float
    others: tuple[Loaded, ...]  # that owe a shadow score
    champion: Loaded | None  # that may answer instead
    plain: Plain | None  # rows that need no further look

    def counted(self, version: int, code: int) -> tuple[str, str, str, int]:
        """The labels of the request counter."""
        return self.model, str(version), self.arm, code


class _Request(msgspec.Struct, eq=False):
    """A call on its way."""

    way: _Way
    call: Call
    rows: int
    event_us: int
    request_id: str
    received_us: int
    received_ns: int
    queued_ns: int  # when it came to the lane it is in
    unit: str  # what decides the arm: the sticky key, else the caller's own id for the request, else ours
    reply: Reply
    started_ns: int = 0
    failure: Share | None = None  # of the version it was routed to, while the champion is asked

    @property
    def columns(self) -> dict[str, list[Any]]:
        return _columns(self.call)

    def tuples(self, names: tuple[str, ...]) -> Tuples | None:
        call = self.call
        rows, known = call.plain_rows, call.plain
        if rows is not None and known is not None and (known.names is names or known.names == names):
            return [astuple(rows[0])] if self.rows == 1 else [astuple(row) for row in rows]
        if self.rows == 1 and not rows:
            columns = call.columns
            return [tuple([columns[name][0] for name in names])]
        return None


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
    _standing: Standing | None = None  # whose ways these are
    _ways: dict[int, _Way] = field(default_factory=dict)

    def submit(self, call: Call, reply: Reply) -> None:
        """Take a call on; raises the caller's mistakes at once and gives everything else to `reply`, once."""
        received_ns = perf_counter_ns()
        standing, metrics = self.versions.standing, self.metrics
        table = standing.table
        if call.model is not None and call.model != table.model:
            raise NotFound(f"no model '{call.model}' is served here; this server has '{table.model}'")
        if metrics.in_progress >= self.limits.waiting:
            raise Overloaded(f"{self.limits.waiting} requests are being worked on; try again in a second")
        self._sequence += 1
        request_id = call.request_id or f"{self.prefix}{self._sequence:x}"
        sticky = None if table.stick_to is None else _sticky(call, table.stick_to)
        unit = sticky if sticky is not None else call.client_id or request_id
        way = self._way(unit, standing) if call.version is None else self._pinned(call.version, standing)
        lane = way.loaded.lane
        if call.plain is None or call.plain is not way.plain:
            self._check(call, way.loaded)
        received_us = self.now_us()
        event_us = call.event_us
        request = _Request(
            way,
            call,
            call.rows,
            received_us if event_us is None else event_us,
            request_id,
            received_us,
            received_ns,
            received_ns,
            unit,
            reply,
        )
        if lane.door.room > 0:
            lane.add(request)
        else:
            self._turn_away(request)
        metrics.in_progress += 1

    def _check(self, call: Call, loaded: Loaded) -> None:
        for column in loaded.checks.check(_columns(call), call.rows):
            self.metrics.doubtful[loaded.version, column] += 1

    def check_room(self) -> None:
        """Refuse a request before anything is done for it, while the champion answers most of them and has no room."""
        door = self.versions.standing.door
        if door is not None and door.room <= 0:
            door.refuse()
            raise _overloaded(self.versions.standing.table.model)

    def _turn_away(self, request: _Request) -> None:
        """Its version has no room: the champion answers if that is another one and has; else Overloaded is raised."""
        way = request.way
        way.loaded.lane.door.refuse()
        share = Share("timed_out", None, "more requests wait for it than it can answer in time", 0, unscored=True)
        if not self._falls_back(request, way.version, share):
            raise _overloaded(way.model)

    def _way(self, unit: str, standing: Standing) -> _Way:
        choice = standing.split.choose(unit)
        if choice is None:
            raise Unavailable("no version of the model is released yet; release one and try again")
        if standing is not self._standing:
            self._standing, self._ways = standing, {}
        way = self._ways.get(choice.version)
        if way is None:
            loaded = standing.by_version[choice.version]
            others = standing.others[choice.version]
            way = _make_way(loaded, standing, choice.arm, choice.weight, others, standing.champion)
            self._ways[choice.version] = way
        return way

    def _pinned(self, version: int, standing: Standing) -> _Way:
        return _make_way(self.versions.pinned(version), standing, "pinned", 1.0, (), None)

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

    def settle(self, version: int, requests: Sequence[_Request], shares: Sequence[Share], started_ns: int) -> None:
        """A batch came back: hand its failures to the champion, journal the rest, answer."""
        records: list[Record] = []
        finished: list[tuple[_Request, Share]] = []
        for request, share in zip(requests, shares, strict=True):
            if request.started_ns == 0:
                request.started_ns = started_ns
            if share.outputs is None:
                if self._falls_back(request, version, share):
                    continue
                if share.unscored and request.failure is None:
                    self._refuse_late(request, version)
                    continue
            records.append(_record(request, version, share))
            finished.append((request, share))
        if not records:
            return
        kept = self._record(records)
        self.counts.predictions += kept
        self.metrics.unrecorded += len(records) - kept
        self._answer(version, finished, kept)
        self._observe(version, [request for request, _ in finished])

    def _answer(self, version: int, finished: Sequence[tuple[_Request, Share]], kept: int) -> None:
        """Tell everybody what became of his request, of which the first so many are in the journal."""
        metrics = self.metrics
        metrics.in_progress -= len(finished)
        answered: dict[_Way, int] = {}
        for number, (request, share) in enumerate(finished):
            recorded = number < kept
            outputs, way = share.outputs, request.way
            answer: Answer | TruelineError
            if outputs is None:
                answer = _failure(request, version, share, recorded=recorded)
                metrics.requests[way.counted(version, answer.status)] += 1
            else:
                answered[way] = answered.get(way, 0) + 1
                answer = Answer(request.request_id, way.model, version, outputs, request.call.client_id, recorded)
            try:
                request.reply(answer)
            except Exception:  # it costs this request its answer, and not those behind it theirs
                log.exception("a defect in trueline, while answering %s", request.request_id)
                with suppress(Exception):
                    request.reply(TruelineError("an unexpected error happened here; the server's log has it"))
            if recorded and way.others:  # a pair needs both
                self._owe_shadows(request, version)
        for way, count in answered.items():
            metrics.requests[way.counted(version, OK)] += count

    def settle_shadows(
        self, version: int, requests: Sequence[_Request], shares: Sequence[Share], started_ns: int
    ) -> None:
        """Shadow scores came back: journal them."""
        del started_ns
        records = [
            ShadowRecord(
                request_id=request.request_id,
                event_us=request.event_us,
                received_us=request.received_us,
                version=version,
                release=request.way.release,
                outcome=share.outcome,
                exec_us=share.exec_us,
                rows=request.rows,
                outputs=share.outputs,
                error=share.error,
            )
            for request, share in zip(requests, shares, strict=True)
        ]
        self._append_shadows(version, records)

    def _append_shadows(self, version: int, records: list[ShadowRecord]) -> None:
        kept = self._record(records)
        self.metrics.shadow_dropped[version] += len(records) - kept
        self.counts.shadows += kept
        self.metrics.shadowed[version] += kept

    def _falls_back(self, request: _Request, version: int, share: Share) -> bool:
        """Give a request that its version could not answer to the champion, if that is another one and can take it.

        The champion of now: the one of when the request came may have been let go since.
        """
        then = request.way.champion if request.failure is None else None
        champion = None if then is None else self.versions.stand_in(version, then)
        if share.unscored and (champion is None or champion.lane.door.room <= 0):
            return False  # all are overloaded: nothing is to be learnt of this version
        self.metrics.failures[version, share.outcome] += 1
        if champion is None or not _can_take(champion, request):
            return False
        request.failure = share
        request.queued_ns = perf_counter_ns()
        champion.lane.add(request)
        return True

    def _refuse_late(self, request: _Request, version: int) -> None:
        """It waited for too long to be scored, like one that was never let in."""
        self.metrics.in_progress -= 1
        self.metrics.requests[request.way.counted(version, Overloaded.status)] += 1
        request.reply(_overloaded(request.way.model))

    def _owe_shadows(self, request: _Request, answered_by: int) -> None:
        for other in request.way.others:
            if other.version == answered_by or not self.versions.keeps(other):
                continue  # one that was let go since the request came owes nothing, and could only fail
            try:
                if request.call.plain is None or request.call.plain is not other.plain:
                    other.checks.check(request.columns, request.rows)
            except InvalidInput as problem:
                share = Share("failed", None, f"it cannot take this request: {problem}", 0)
                self.settle_shadows(other.version, [request], [share], 0)
            else:
                other.lane.add_shadow(request)

    def _observe(self, version: int, requests: Sequence[_Request]) -> None:
        """How long they took, now that their answers are written."""
        now = perf_counter_ns()
        metrics = self.metrics
        metrics.queue[version].observe_all([(one.started_ns - one.received_ns) / 1e9 for one in requests])
        metrics.duration[version].observe_all([(now - one.received_ns) / 1e9 for one in requests])


def _make_way(
    loaded: Loaded, standing: Standing, arm: str, weight: float, others: tuple[Loaded, ...], champion: Loaded | None
) -> _Way:
    table = standing.table
    return _Way(
        loaded=loaded,
        model=table.model,
        epoch=table.epoch,
        release=table.release,
        version=loaded.version,
        arm=arm,
        weight=weight,
        others=others,
        champion=champion,
        plain=loaded.plain,
    )


def _overloaded(model: str) -> Overloaded:
    return Overloaded(f"more requests wait for '{model}' than can be answered in time; try again in a second")


def _columns(call: Call) -> dict[str, list[Any]]:
    """A call's columns, made from its plain rows when they are first asked for."""
    if call.plain is not None and call.plain_rows is not None and not call.columns:
        call.columns = call.plain.columns(call.plain_rows)
    return call.columns


def _can_take(champion: Loaded, request: _Request) -> bool:
    if request.call.plain is not None and request.call.plain is champion.plain:
        return True
    try:
        champion.checks.check(request.columns, request.rows)
    except InvalidInput:
        return False
    return True


def _sticky(call: Call, stick_to: str) -> str | None:
    """The value of the sticky key; None when the call has none."""
    if call.plain is not None and call.plain_rows is not None:
        value = call.plain.value(call.plain_rows[0], stick_to)
    else:
        values = call.columns.get(stick_to)
        value = values[0] if values else None
    if type(value) is float and value.is_integer():
        value = int(value)  # 7.0 is the same key as 7, however it was decoded
    return None if value is None else str(value)


def _record(request: _Request, version: int, share: Share) -> PredictionRecord:
    failure, outputs = request.failure, share.outputs
    outcome, error, own = (share.outcome, share.error, share) if failure is None else _fallen(version, share, failure)
    way, call = request.way, request.call
    return PredictionRecord(  # by position: by name it costs twice as much, for each request
        request.request_id,
        request.event_us,
        request.received_us,
        way.model,
        way.epoch,
        way.release,
        way.version,
        way.arm,
        way.weight,
        request.unit,
        outcome,
        None if outputs is None else version,  # answered_by
        (request.started_ns - request.received_ns) // 1000,  # queue_us
        own.exec_us,
        request.rows,
        call.columns if call.plain_rows is None else call.plain_rows,
        outputs,
        error,
    )


def _fallen(version: int, share: Share, failure: Share) -> tuple[Outcome, str, Share]:
    """Outcome and error of a request that its version could not answer, and what became of it there."""
    if share.outputs is None:
        return failure.outcome, f"{failure.error}; version {version} failed too: {share.error}", failure
    return "fell_back", f"{failure.outcome}: {failure.error}", failure


def _failure(request: _Request, version: int, share: Share, *, recorded: bool) -> TruelineError:
    failure = request.failure
    what = f"version {request.way.version} of '{request.way.model}' could not answer: {(failure or share).error}"
    if failure is not None:
        what += f"; nor could version {version}: {share.error}"
    if share.separable or share.outcome == "invalid_output":
        return TruelineError(
            f"{what}; the request is " + (f"recorded as {request.request_id}" if recorded else "unrecorded")
        )
    return Unavailable(f"{what}; try again")
