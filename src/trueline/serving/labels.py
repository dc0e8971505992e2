"""`POST /labels`: the truth about predictions, journalled before it is acknowledged.

In: `{"labels": [{"prediction_id": …, "value": …, "source"?: …, "revision"?: …}, …]}`, or one label as the whole body.
Out: `{"accepted": n, "label_ids": […]}`. Late, repeated, corrected and unknown ones are all accepted: which of them
count is decided where predictions and labels meet, by identity (prediction id, source, revision).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from trueline.errors import InvalidInput
from trueline.journal.records import LabelRecord
from trueline.serving.dataplane import DataPlane
from trueline.serving.responses import encode as to_json

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Label(msgspec.Struct):
    prediction_id: Name
    value: bool | float
    source: Name = "api"
    revision: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | None = None


class Labels(msgspec.Struct):
    labels: Annotated[list[Label], msgspec.Meta(min_length=1)]


_decode_many = msgspec.json.Decoder(Labels).decode
_decode_one = msgspec.json.Decoder(Label).decode


def accept(body: bytes, plane: DataPlane, event_us: int | None) -> bytes:
    """Journal the labels of a request and say so."""
    records = [_record(label, plane, event_us) for label in _decode(body)]
    plane.accept_labels(records)
    return to_json({"accepted": len(records), "label_ids": [record.label_id for record in records]})


def _record(label: Label, plane: DataPlane, event_us: int | None) -> LabelRecord:
    received_us = plane.next_label_us()
    return LabelRecord(
        label_id=plane.next_label_id(),
        prediction_id=label.prediction_id,
        value=float(label.value),
        event_us=received_us if event_us is None else event_us,
        received_us=received_us,
        source=label.source,
        revision=label.revision,
    )


def _decode(body: bytes) -> list[Label]:
    try:
        if b'"labels"' in body:
            return _decode_many(body).labels
        return [_decode_one(body)]
    except RecursionError:
        raise InvalidInput("the body is nested too deeply; a label is one object of plain values") from None
    except (msgspec.DecodeError, ValueError) as problem:
        raise InvalidInput(f"the body is not a list of labels: {problem}") from None
