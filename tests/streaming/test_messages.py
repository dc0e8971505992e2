"""Identity, CloudEvents, dead letters, and what may be committed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from trueline.streaming import messages
from trueline.streaming.messages import Asked, Message

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ROW = Message("in", 1, 7, b"LH400", b'{"x": 1}', (), 1_700_000_000_123)
ANSWER = b'{"predictions":[2.0],"prediction_ids":["a-0"],"model":"m","version":1}'
STRUCTURED = ("Content-Type", b"application/cloudevents+json; charset=UTF-8")


def test_a_plain_message_is_its_row_at_its_own_time():
    assert messages.read(ROW) == Asked(b'{"x": 1}', "2023-11-14T22:13:20.123Z", None)
    assert messages.read(replace(ROW, time_ms=None)) == Asked(b'{"x": 1}', None, None)


def test_a_cloudevent_in_binary_mode_says_its_time_and_id_in_headers():
    headers = (("ce_id", b"77"), ("ce_time", b"2026-01-01T00:00:00Z"), ("ce_type", b"x"), ("ce_empty", None))
    assert messages.read(replace(ROW, headers=headers)) == Asked(b'{"x": 1}', "2026-01-01T00:00:00Z", "77")


def test_a_cloudevent_in_structured_mode_has_the_row_inside():
    envelope = {
        "specversion": "1.0",
        "id": "77",
        "source": "/s",
        "type": "t",
        "data": {"x": 1},
        "time": "2026-01-01T00:00:00Z",
    }
    message = replace(ROW, headers=(STRUCTURED,), value=json.dumps(envelope).encode())
    assert messages.read(message) == Asked(b'{"x": 1}', "2026-01-01T00:00:00Z", "77")


@pytest.mark.parametrize(
    ("value", "headers", "said"),
    [
        (None, (), "the message has no value; send a row as a JSON object"),
        (b"{", (STRUCTURED,), "the message says it is a structured CloudEvent, and is none: "),
        (b'{"id": 7}', (STRUCTURED,), "the message says it is a structured CloudEvent, and is none: "),
        (b"[" * 100_000, (STRUCTURED,), "the message says it is a structured CloudEvent, and is none: "),
        (b'{"id": "7"}', (STRUCTURED,), "the CloudEvent has no JSON 'data'; send the row there"),
    ],
)
def test_what_asks_nothing_is_a_sentence(value, headers, said):
    assert messages.read(replace(ROW, value=value, headers=headers)).startswith(said)


def test_a_prediction_keeps_the_key_and_says_what_it_is():
    message = replace(ROW, headers=(("ce_id", b"77"), ("content-type", b"x"), ("traceparent", b"00-1"), ("none", None)))
    made = messages.prediction(message, messages.read(message), ANSWER, topic="out", group="g", now=NOW)
    assert (made.topic, made.key, made.value) == ("out", b"LH400", ANSWER)
    assert dict(made.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"in-1-7",
        "ce_source": b"/trueline/g",
        "ce_type": b"org.kubeflow.serving.inference.response",
        "ce_time": b"2026-11-01T12:00:00.000Z",
        "ce_inferenceservicename": b"m",
        "ce_component": b"predictor",
        "ce_causationid": b"77",
        "content-type": b"application/json",
        "traceparent": b"00-1",
        "none": None,
    }
    again = messages.prediction(message, messages.read(message), ANSWER, topic="out", group="g", now=NOW)
    assert again == made


def test_a_dead_letter_is_the_message_with_the_reason():
    message = replace(ROW, headers=(("ce_id", b"77"),))
    letter = messages.dead_letter(message, "input 'x' is missing", 400, topic="dead", group="g")
    assert (letter.topic, letter.key, letter.value) == ("dead", b"LH400", b'{"x": 1}')
    assert dict(letter.headers) == {
        "ce_id": b"77",
        "trueline.errors.message": b"input 'x' is missing",
        "trueline.errors.topic": b"in",
        "trueline.errors.partition": b"1",
        "trueline.errors.offset": b"7",
        "trueline.errors.group": b"g",
        "trueline.errors.status": b"400",
        "trueline.errors.timestamp": b"1700000000123",
    }
    assert messages.without_value(letter).value is None
    assert messages.without_value(letter).headers[:-1] == letter.headers


def test_only_what_has_nothing_undone_before_it_in_its_partition_is_done():
    batch = [replace(ROW, partition=p, offset=o) for p, o in ((0, 5), (1, 9), (0, 6), (1, 10), (0, 7))]
    done = messages.done_so_far(batch, frozenset({"in-0-6"}))
    assert [one.id for one in done] == ["in-0-5", "in-1-9", "in-1-10"]
    assert messages.ends(done) == {("in", 0): 6, ("in", 1): 11}
