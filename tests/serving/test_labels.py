"""Labels are judged by the target's declaration, and journalled before they are acknowledged: all of a request, or none."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_world import SIGNATURE, Fake, eventually, table

from trueline.domain.contracts import Column, Kind, Role
from trueline.errors import InvalidInput
from trueline.journal.records import LabelRecord
from trueline.packaging import manifest
from trueline.packaging.signature import CLASSIFICATION
from trueline.serving import labels

LATE = replace(SIGNATURE, task=CLASSIFICATION, target=Column("late", Kind.integer, nullable=True, minimum=0, maximum=1))
NAMED = replace(SIGNATURE, task=CLASSIFICATION, target=Column("late", Kind.string, categories=("no", "yes")))
MINUTES = replace(SIGNATURE, target=Column("minutes", Kind.float32, minimum=0, maximum=90))


def test_labels_are_in_the_journal_when_they_are_acknowledged(serve):
    server = serve(wanted=table(), replay=True)
    labels = [
        {"prediction_id": "a-0", "value": 12.5},
        {"prediction_id": "a-0", "value": 1, "source": "labels", "revision": 2},
    ]
    reply = server.post("/labels", {"labels": labels}, {"X-Trueline-Event-Time": "1970-01-01T00:00:01+00:00"})
    assert reply.status == 200
    first, second = server.records(LabelRecord)
    assert reply.json == {"accepted": 2, "label_ids": [first.label_id, second.label_id]}
    assert (first.prediction_id, first.value, first.source, first.revision) == ("a-0", 12.5, "api", None)
    assert (second.value, second.source, second.revision) == (1.0, "labels", 2)
    assert first.event_us == 1_000_000 < first.received_us
    assert server.metric("trueline_labels_total") == 2


def test_one_label_may_be_the_whole_body_whatever_its_source_is_called(serve):
    server = serve(wanted=table())
    assert server.post("/labels", {"prediction_id": "a-0", "value": 1, "source": "labels"}).json["accepted"] == 1


def test_the_same_label_again_is_accepted_again_under_its_own_id(serve):
    server = serve(wanted=table())
    label = {"prediction_id": "a-0", "value": 1}
    ids = [server.post("/labels", label).json["label_ids"][0] for _ in range(3)]
    assert len(set(ids)) == 3
    assert [one.label_id for one in server.records()] == ids


def test_the_classes_may_be_told_by_name(serve):
    server = serve({1: Fake(1, signature=NAMED)}, table())
    told = [{"prediction_id": f"p-{number}", "value": value} for number, value in enumerate(["yes", "no", 1, 0.0])]
    assert server.post("/labels", {"labels": told}).json["accepted"] == 4
    assert [one.value for one in server.records(LabelRecord)] == [1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("signature", "value", "said"),
    [
        (LATE, 7, "value of 'late': expected 0 or 1, got 7"),
        (NAMED, "maybe", "value of 'late': expected 'no' or 'yes' (or 0 or 1), got 'maybe'"),
        (MINUTES, "12", "value of 'minutes': expected float32, got string"),
        (SIGNATURE, 10**400, "value of 'y': expected float64, got a number too large for it"),
    ],
)
def test_a_value_that_the_target_cannot_have_is_refused_with_all_labels_of_its_request(serve, signature, value, said):
    server = serve({1: Fake(1, signature=signature)}, table())
    told = [{"prediction_id": "a-0", "value": 1}, {"prediction_id": "b-0", "value": value}]
    reply = server.post("/labels", {"labels": told})
    assert (reply.status, reply.error) == (
        400,
        f"label 1: prediction 'b-0', {said}; none of the 2 labels was taken",
    )
    assert server.post("/labels", told[1]).error == f"label 0: prediction 'b-0', {said}; it was not taken"
    assert server.records() == []
    assert server.metric("trueline_labels_total") == 0


def test_the_target_is_the_one_that_the_model_was_packaged_with(packaged):
    declared = Column("y", Kind.float32, role=Role.target)
    assert manifest.read(packaged[1].folder).signature.target == declared == packaged[1].signature.target


def test_a_value_beyond_what_was_seen_in_training_is_taken_and_counted(serve):
    server = serve({1: Fake(1, signature=MINUTES)}, table())
    told = [{"prediction_id": f"p-{number}", "value": value} for number, value in enumerate([10, 400, 500])]
    assert server.post("/labels", {"labels": told}).json["accepted"] == 3
    assert server.metric('trueline_contract_warnings_total{model="m",version="1",column="minutes"}') == 1


def test_before_the_first_release_there_is_nothing_to_label(serve):
    server = serve()
    reply = server.post("/labels", {"prediction_id": "a-0", "value": 1})
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert "no version of the model is released yet" in reply.error
    assert server.records() == []
    assert server.put(table())["ok"]
    assert eventually(lambda: server.post("/labels", {"prediction_id": "a-0", "value": 1}).status == 200)


ONE = {"prediction_id": "a", "value": 1}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"labels": []}, "'labels' has no labels; send at least one"),
        ({"labels": ONE}, "'labels': expected a list of labels, got object"),
        ({"labels": [{"value": 1}]}, "label 0: prediction_id is missing; it was not taken"),
        ({"labels": [ONE, {"prediction_id": "a"}]}, "label 1: value is missing; none of the 2 labels was taken"),
        (
            {"labels": [ONE, 7]},
            "label 1: expected an object with prediction_id and value, got integer; none of the 2 labels was taken",
        ),
        (
            {"prediction_id": "", "value": 1},
            "label 0: prediction_id: expected 1 to 256 characters, got 0; it was not taken",
        ),
        (
            {"prediction_id": "a", "value": None},
            "label 0: value: expected a number, true or false, or text, got null; it was not taken",
        ),
        ({"prediction_id": "a", "value": "late"}, "value of 'y': expected float64, got string; it was not taken"),
        ({"prediction_id": 3, "value": 1}, "label 0: prediction_id: expected text, got integer; it was not taken"),
        (ONE | {"source": None}, "label 0: source: expected text, got null; it was not taken"),
        (ONE | {"revision": -1}, "label 0: revision: expected 0 to 4611686018427387904, got -1; it was not taken"),
        (ONE | {"revision": True}, "label 0: revision: expected an integer or null, got boolean; it was not taken"),
        (b'{"prediction_id": "a", "value": 1e999}', "the body is not valid JSON: Number out of range"),
        (b'{"prediction_id": "a", "value": NaN}', "JSON has neither NaN nor Infinity"),
        (b'{"labels": [{"prediction_id"', "the body is not valid JSON: Input data was truncated"),
        (b"", "the body is not valid JSON: it is empty"),
        (b"[" * 100_000, "the body is nested too deeply"),
        ([], 'expected an object, {"labels": [label, …]} or one label, got list'),
    ],
)
def test_a_malformed_label_is_a_sentence_and_none_of_its_request_is_taken(serve, body, said):
    server = serve(wanted=table())
    reply = server.post("/labels", body)
    assert reply.status == 400
    assert said in reply.error
    assert "$" not in reply.error
    assert server.records() == []


anything = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
fields = st.dictionaries(
    st.sampled_from(["prediction_id", "value", "source", "revision", "labels", "more"]),
    anything | st.lists(anything, max_size=2),
)
bodies = fields | st.fixed_dictionaries({"labels": st.lists(fields | anything, max_size=3)}) | anything


@given(bodies)
def test_labels_are_taken_or_refused_in_our_words_and_the_short_way_takes_no_other_ones(body):
    data = msgspec.json.encode(body)
    found = said(labels.decode, data)
    assert found == said(labels._look_closely, data)
    if isinstance(found, str):
        assert "`" not in found
        return
    given_ = json.loads(data)
    many = given_.get("labels", [given_])
    assert [one.prediction_id for one in found] == [one["prediction_id"] for one in many]


def said(decode, data):
    """The labels, or the sentence that refuses them."""
    try:
        return decode(data)
    except InvalidInput as refused:
        return str(refused)
