"""`POST /labels`: the truth about predictions, journalled before it is acknowledged.

In: `{"labels": [{"prediction_id": …, "value": …, "source"?: …, "revision"?: …}, …]}`, or one label as the whole body.
Out: `{"accepted": n, "label_ids": […]}`: all of a request's labels, or a refusal and none.

A value must be one that the target may have, as the champion's contract declares it. Late, repeated, corrected and unknown ones are
all accepted: which of them count is decided where predictions and labels meet, by identity (prediction id, source, revision).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec

from trueline.domain.contracts import Column, Kind, compile_doubts, kind_of
from trueline.domain.labels import Told, compile_label
from trueline.errors import InvalidInput, Unavailable
from trueline.journal.records import LabelRecord
from trueline.packaging.signature import CLASSIFICATION
from trueline.serving.dataplane import DataPlane
from trueline.serving.predict import decode_json
from trueline.serving.responses import encode as to_json

LONGEST = 256  # characters of a name
LAST_REVISION = 2**62

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST)]


class Label(msgspec.Struct):
    prediction_id: Name
    value: Told
    source: Name = "api"
    revision: Annotated[int, msgspec.Meta(ge=0, le=LAST_REVISION)] | None = None


class Labels(msgspec.Struct):
    labels: Annotated[list[Label], msgspec.Meta(min_length=1)]


_decode_many = msgspec.json.Decoder(Labels).decode
_decode_one = msgspec.json.Decoder(Label).decode


def accept(body: bytes, plane: DataPlane, event_us: int | None) -> bytes:
    """Journal the labels of a request and say so."""
    labels = decode(body)
    values = _values(labels, plane)
    records = [_record(label, value, plane, event_us) for label, value in zip(labels, values, strict=True)]
    plane.accept_labels(records)
    return to_json({"accepted": len(records), "label_ids": [record.label_id for record in records]})


def decode(body: bytes) -> list[Label]:
    """The labels of a body, of which only the values are still to be judged."""
    try:
        return _decode_many(body).labels if b'"labels"' in body else [_decode_one(body)]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _look_closely(body)


def _values(labels: Sequence[Label], plane: DataPlane) -> list[float]:
    """What the labels say, as numbers; all are judged before any is taken."""
    champion = plane.versions.standing.champion
    if champion is None:
        raise Unavailable(
            "no version of the model is released yet, so there is nothing to label; release one and try again"
        )
    signature = champion.runner.signature
    target = signature.target or Column(signature.output, Kind.float64)
    read = compile_label(target, classes=signature.task == CLASSIFICATION)
    values = []
    for number, label in enumerate(labels):
        try:
            values.append(read(label.value))
        except InvalidInput as problem:
            what = f"prediction '{label.prediction_id[:60]}', value of '{target.name}': {problem}"
            raise _refusal(labels, number, what) from None
    doubt = compile_doubts(target)
    if target.kind is not Kind.string and any(doubt(value) for value in values):
        plane.metrics.doubtful[champion.version, target.name] += 1
    return values


def _record(label: Label, value: float, plane: DataPlane, event_us: int | None) -> LabelRecord:
    received_us = plane.next_label_us()
    return LabelRecord(
        label_id=plane.next_label_id(),
        prediction_id=label.prediction_id,
        value=value,
        event_us=received_us if event_us is None else event_us,
        received_us=received_us,
        source=label.source,
        revision=label.revision,
    )


def _look_closely(body: bytes) -> list[Label]:
    """Labels that are not plainly right: what is wrong with the first of them, in our words."""
    parsed = decode_json(body)
    if not isinstance(parsed, dict):
        raise InvalidInput(f'expected an object, {{"labels": [label, …]}} or one label, got {kind_of(parsed)}')
    many = parsed.get("labels", [parsed])
    if not isinstance(many, list):
        raise InvalidInput(f"'labels': expected a list of labels, got {kind_of(many)}")
    if not many:
        raise InvalidInput("'labels' has no labels; send at least one")
    return [_label(many, number) for number in range(len(many))]


def _label(many: Sequence[Any], number: int) -> Label:
    given = many[number]
    if not isinstance(given, dict):
        raise _refusal(many, number, f"expected an object with prediction_id and value, got {kind_of(given)}")
    for name in ("prediction_id", "value"):
        if name not in given:
            raise _refusal(many, number, f"{name} is missing")
    found = {name: given[name] for name in _RULES if name in given}
    for name, value in found.items():
        problem = _RULES[name](value)
        if problem is not None:
            raise _refusal(many, number, f"{name}: {problem}")
    return Label(**found)


def _refusal(labels: Sequence[Any], number: int, problem: str) -> InvalidInput:
    if len(labels) == 1:
        return InvalidInput(f"label 0: {problem}; it was not taken")
    return InvalidInput(f"label {number}: {problem}; none of the {len(labels)} labels was taken")


def _name(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"expected text, got {kind_of(value)}"
    return None if 0 < len(value) <= LONGEST else f"expected 1 to {LONGEST} characters, got {len(value)}"


def _value(value: Any) -> str | None:
    return None if isinstance(value, Told) else f"expected a number, true or false, or text, got {kind_of(value)}"


def _revision(value: Any) -> str | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        return f"expected an integer or null, got {kind_of(value)}"
    return None if value is None or 0 <= value <= LAST_REVISION else f"expected 0 to {LAST_REVISION}, got {value}"


_RULES: dict[str, Callable[[Any], str | None]] = {
    "prediction_id": _name, "value": _value, "source": _name, "revision": _revision,
}  # fmt: skip
