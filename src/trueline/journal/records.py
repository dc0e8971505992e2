"""What the journal holds: one record per routed request, per shadow score, per label, per death of a process.

Records are msgpack arrays with a tag, so a field may be added at the end with a default and never removed or moved.
All times are microseconds since the epoch, UTC: `event_us` is when it happened in the world (replayed under
`--replay`), `received_us` when this server saw it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Outcome = Literal["answered", "failed", "timed_out", "invalid_output", "fell_back"]


class PredictionRecord(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="prediction"):
    """One routed request. The id of its row i is `prediction_id(request_id, i)`.

    `version` is the one the request was routed to, and `outcome` is that version's: everything but `answered` is a bad
    event of it. `outputs` is what the client was told, by version `answered_by`; with `fell_back` that is the champion
    and `error` says what `version` did.
    """

    request_id: str
    event_us: int
    received_us: int
    model: str
    epoch: int
    release: str | None
    version: int
    arm: str  # champion | canary | pinned
    weight: float  # the known probability of that arm
    unit: str  # what was hashed to choose the arm
    outcome: Outcome
    answered_by: int | None
    queue_us: int
    exec_us: int
    rows: int
    features: Any  # columns, {name: [value of each row]}; or written as rows, [{name: value}], and decoded as columns
    outputs: list[float] | None
    error: str | None


class ShadowRecord(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="shadow"):
    """What a version that did not answer the request would have said."""

    request_id: str
    event_us: int
    received_us: int
    version: int
    release: str | None
    outcome: Outcome
    exec_us: int
    rows: int
    outputs: list[float] | None
    error: str | None


class LabelRecord(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="label"):
    """The truth about one prediction; `event_us` is when it arrived, in event time.

    `label_id` names this acceptance. The label's identity is (prediction_id, source, revision): the same value again
    is a duplicate, a new value a correction.
    """

    label_id: str
    prediction_id: str
    value: float | None
    event_us: int
    received_us: int
    source: str
    revision: int | None


class CrashRecord(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="crash"):
    """A serving process died while it was scoring `version` for `in_flight` requests (written at the next start)."""

    version: int
    event_us: int
    received_us: int
    in_flight: int
    error: str


Record = PredictionRecord | ShadowRecord | LabelRecord | CrashRecord

encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    return encoder.encode(record)


def decode(payload: bytes | memoryview) -> Record:
    """The inverse of `encode`; raises msgspec.DecodeError for anything else."""
    record = _decoder.decode(payload)
    if type(record) is PredictionRecord and type(record.features) is list:
        rows = record.features
        columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
        msgspec.structs.force_setattr(record, "features", columns)
    return record


def prediction_id(request_id: str, row: int) -> str:
    """The id of one row of a request.

    >>> prediction_id("r0-1a-7", 0)
    'r0-1a-7-0'
    """
    return f"{request_id}-{row}"
