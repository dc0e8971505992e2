"""What comes in and what goes out: messages, their identity, CloudEvents, dead letters. Pure.

A message's identity is its place, topic-partition-offset. The model server is asked under it as the request's key, and the output
has it as its `ce_id`, so whatever is done twice because Kafka delivers at least once has the same id both times.

CloudEvents come in binary mode (`ce_*` headers, the value is the row) or structured mode (the value is the envelope), and go
out in binary mode, as KServe names them. Headers that are not CloudEvents' own (a trace, a tenant) are passed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

RESPONSE = "org.kubeflow.serving.inference.response"
STRUCTURED = b"application/cloudevents+json"
ERRORS = "trueline.errors."  # what a dead letter's own headers begin with

Headers = tuple[tuple[str, bytes | None], ...]  # Kafka has headers without a value


@dataclass(frozen=True)
class Message:
    """One message as Kafka gave it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    time_ms: int | None  # the message's own timestamp

    @property
    def id(self) -> str:
        """The same at every delivery.

        >>> Message("departures", 0, 42, None, b"{}", (), None).id
        'departures-0-42'
        """
        return f"{self.topic}-{self.partition}-{self.offset}"

    def header(self, name: str) -> bytes | None:
        return next((value for known, value in self.headers if known.lower() == name), None)


@dataclass(frozen=True)
class Outgoing:
    """One message to be produced."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class _Envelope(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()
    id: str | None = None
    time: str | None = None


class _Answer(msgspec.Struct):
    model: str


_envelope = msgspec.json.Decoder(_Envelope).decode
_answer = msgspec.json.Decoder(_Answer).decode


@dataclass(frozen=True)
class Asked:
    """What a message asks of the model server."""

    body: bytes
    event_time: str | None = None  # RFC 3339
    cause: str | None = None  # the CloudEvent's own id


def read(message: Message) -> Asked | str:
    """What it asks, or what keeps it from asking anything: one sentence."""
    if message.value is None:
        return "the message has no value; send a row as a JSON object"
    stamp = None if message.time_ms is None else _rfc3339(message.time_ms / 1000)
    if not (message.header("content-type") or b"").lower().startswith(STRUCTURED):
        cause, time = message.header("ce_id"), message.header("ce_time")
        return Asked(message.value, stamp if time is None else _text(time), None if cause is None else _text(cause))
    try:
        envelope = _envelope(message.value)
    except (msgspec.DecodeError, ValueError, RecursionError) as problem:
        return f"the message says it is a structured CloudEvent, and is none: {problem}"
    if not envelope.data:
        return "the CloudEvent has no JSON 'data'; send the row there"
    return Asked(bytes(envelope.data), envelope.time or stamp, envelope.id)


def prediction(message: Message, asked: Asked, answer: bytes, *, topic: str, group: str, now: datetime) -> Outgoing:
    """The output for an answer of /predict: under the message's key, with CloudEvents' headers."""
    event = {
        "ce_specversion": "1.0",
        "ce_id": message.id,
        "ce_source": f"/trueline/{group}",
        "ce_type": RESPONSE,
        "ce_time": _rfc3339(now.timestamp()),
        "ce_inferenceservicename": _answer(answer).model,
        "ce_component": "predictor",
    }
    if asked.cause is not None:
        event["ce_causationid"] = asked.cause
    event["content-type"] = "application/json"
    passed = [(name, value) for name, value in message.headers if not _of_cloudevents(name)]
    return Outgoing(topic, message.key, answer, (*_encoded(event), *passed))


def dead_letter(message: Message, sentence: str, status: int | None, *, topic: str, group: str) -> Outgoing:
    """A refused message as it came, with its headers, and in more headers why and where it was."""
    told = {
        "message": sentence,
        "topic": message.topic,
        "partition": str(message.partition),
        "offset": str(message.offset),
        "group": group,
    }
    if status is not None:
        told["status"] = str(status)
    if message.time_ms is not None:
        told["timestamp"] = str(message.time_ms)
    own = _encoded({f"{ERRORS}{name}": text for name, text in told.items()})
    return Outgoing(topic, message.key, message.value, (*message.headers, *own))


def without_value(letter: Outgoing) -> Outgoing:
    """A dead letter that Kafka finds too large: what remains says where the message itself still is."""
    size = 0 if letter.value is None else len(letter.value)
    note = (f"{ERRORS}omitted", f"the value of {size} bytes is too large beside these headers".encode())
    return Outgoing(letter.topic, letter.key, None, (*letter.headers, note))


def ends(messages: Iterable[Message]) -> Mapping[tuple[str, int], int]:
    """What to commit once all of these are done: of each partition the offset after the last."""
    return {(one.topic, one.partition): one.offset + 1 for one in messages}


def done_so_far(messages: Sequence[Message], undone: frozenset[str]) -> list[Message]:
    """Of each partition the messages before the first that is not done: no more than these can be committed."""
    blocked: set[tuple[str, int]] = set()
    done = []
    for one in messages:
        place = (one.topic, one.partition)
        if one.id in undone:
            blocked.add(place)
        elif place not in blocked:
            done.append(one)
    return done


def _of_cloudevents(name: str) -> bool:
    return name.lower().startswith("ce_") or name.lower() == "content-type"


def _encoded(headers: Mapping[str, str]) -> Headers:
    return tuple((name, value.encode()) for name, value in headers.items())


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
