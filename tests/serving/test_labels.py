"""Labels are journalled before they are acknowledged, whatever they are about."""

from __future__ import annotations

import pytest
from serving_world import table

from trueline.journal.records import LabelRecord


def test_labels_are_in_the_journal_when_they_are_acknowledged(serve):
    server = serve(wanted=table(), replay=True)
    labels = [
        {"prediction_id": "a-0", "value": 12.5},
        {"prediction_id": "a-0", "value": True, "source": "tower", "revision": 2},
    ]
    reply = server.post("/labels", {"labels": labels}, {"X-Trueline-Event-Time": "1970-01-01T00:00:01+00:00"})
    assert reply.status == 200
    first, second = server.records(LabelRecord)
    assert reply.json == {"accepted": 2, "label_ids": [first.label_id, second.label_id]}
    assert (first.prediction_id, first.value, first.source, first.revision) == ("a-0", 12.5, "api", None)
    assert (second.value, second.source, second.revision) == (1.0, "tower", 2)
    assert first.event_us == 1_000_000 < first.received_us
    assert server.metric("trueline_labels_total") == 2


def test_the_same_label_again_is_accepted_again_under_its_own_id(serve):
    server = serve()
    label = {"prediction_id": "a-0", "value": 1}
    ids = [server.post("/labels", label).json["label_ids"][0] for _ in range(3)]
    assert len(set(ids)) == 3
    assert [one.label_id for one in server.records()] == ids


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"labels": []}, "Expected `array` of length >= 1 - at `$.labels`"),
        ({"labels": [{"value": 1}]}, "Object missing required field `prediction_id` - at `$.labels[0]`"),
        ({"labels": [{"prediction_id": "a"}]}, "Object missing required field `value` - at `$.labels[0]`"),
        ({"labels": [{"prediction_id": "", "value": 1}]}, "Expected `str` of length >= 1"),
        ({"prediction_id": "a", "value": None}, "Expected `bool | float`, got `null` - at `$.value`"),
        ({"prediction_id": "a", "value": "late"}, "Expected `bool | float`, got `str` - at `$.value`"),
        ({"prediction_id": 3, "value": 1}, "Expected `str`, got `int` - at `$.prediction_id`"),
        (
            {"prediction_id": "a", "value": 1, "revision": 2**70},
            "Expected `int` <= 4611686018427387904 - at `$.revision`",
        ),
        (b'{"prediction_id": "a", "value": 1e999}', "Number out of range"),
        (b'{"labels": [{"prediction_id"', "Input data was truncated"),
        (b"", "Input data was truncated"),
        ([], "Expected `object`, got `array`"),
    ],
)
def test_a_malformed_label_is_a_sentence_and_none_of_its_request_is_taken(serve, body, said):
    server = serve()
    reply = server.post("/labels", body)
    assert reply.status == 400
    assert reply.error.startswith(f"the body is not a list of labels: {said}")
    assert server.records() == []
