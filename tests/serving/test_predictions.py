"""One request: checked, routed to one version, scored, journalled, answered."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from serving_world import SIGNATURE, Fake, eventually, route, table

from trueline.domain.contracts import Column, Kind
from trueline.domain.routes import Arm
from trueline.journal.records import CrashRecord, PredictionRecord, ShadowRecord
from trueline.serving import predict
from trueline.serving.checks import Checks
from trueline.serving.scoreboard import Scoreboard

ROW = {"x": 2.5, "n": 3}
NO_NAN = "JSON has neither NaN nor Infinity, send null for a missing value"
CANARY = (route(1, weight=0.5), route(2, Arm.canary, 0.5))


def test_rows_as_instances_are_answered_with_an_id_each(serve):
    server = serve({3: Fake(3)}, table(routes=(route(3),)))
    reply = server.post("/predict", {"instances": [ROW, {"x": 1, "n": None}]})
    assert reply.status == 200
    request_id = reply.headers["trueline-request-id"]
    assert reply.json == {
        "predictions": [7.5, 3.0],
        "prediction_ids": [f"{request_id}-0", f"{request_id}-1"],
        "model": "m",
        "version": 3,
    }


@pytest.mark.parametrize("body", [ROW, {"instances": ROW}, {"instances": [ROW]}])
def test_one_row_may_come_without_the_list(serve, body):
    assert serve(wanted=table()).post("/predict", body).json["predictions"] == [2.5]


def test_the_answered_request_is_in_the_journal_with_everything_about_it(serve):
    server = serve(wanted=table(epoch=7, release="r9", stick_to="customer"))
    reply = server.post("/predict", {**ROW, "customer": "c-1"}, {"X-Request-Id": "mine"})
    assert reply.headers["x-request-id"] == "mine"
    (record,) = server.records(PredictionRecord)
    assert record.request_id == reply.headers["trueline-request-id"]
    assert (record.model, record.epoch, record.release) == ("m", 7, "r9")
    assert (record.version, record.arm, record.weight, record.unit) == (1, "champion", 1.0, "c-1")
    assert (record.outcome, record.answered_by, record.outputs, record.error) == ("answered", 1, [2.5], None)
    assert record.features == {"x": [2.5], "n": [3], "customer": ["c-1"]}
    assert record.rows == 1
    assert record.event_us == record.received_us > 1.7e15
    assert record.queue_us >= 0


def test_the_unit_is_the_callers_id_when_there_is_no_sticky_column_and_ours_when_he_has_none(serve):
    server = serve(wanted=table(stick_to="customer"))
    server.post("/predict", ROW, {"X-Request-Id": "mine"})
    reply = server.post("/predict", ROW)
    assert [one.unit for one in server.records()] == ["mine", reply.headers["trueline-request-id"]]


def test_one_sticky_key_stays_with_one_version(serve):
    server = serve({1: Fake(1), 2: Fake(2)}, table(routes=CANARY, stick_to="customer"))
    for customer in range(12):
        versions = {server.post("/predict", {**ROW, "customer": customer}).json["version"] for _ in range(4)}
        assert len(versions) == 1
    assert {one.version for one in server.records(PredictionRecord)} == {1, 2}


def test_event_time_is_taken_from_the_request_only_under_replay(serve):
    stamp = {"X-Trueline-Event-Time": "2013-07-01T12:00:00Z"}
    server = serve(wanted=table(), replay=True)
    assert server.post("/predict", ROW, stamp).status == 200
    assert "RFC 3339" in server.post("/predict", ROW, {"X-Trueline-Event-Time": "noon"}).error
    assert "RFC 3339" in server.post("/predict", ROW, {"X-Trueline-Event-Time": "2013-07-01T12:00:00"}).error
    (record,) = server.records()
    assert record.event_us == 1_372_680_000_000_000 < record.received_us
    server.stop()
    server = serve(wanted=table())
    server.post("/predict", ROW, stamp)
    record = server.records()[-1]
    assert record.event_us == record.received_us


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"x": "a", "n": 1}, "input 'x': expected float64, got string at row 0"),
        ({"instances": [ROW, {"x": 1.0, "n": True}]}, "input 'n': expected integer, got boolean at row 1"),
        ({"x": None, "n": 1}, "input 'x': expected float64, got null at row 0"),
        ({"x": [1.0], "n": 1}, "input 'x': expected float64, got list at row 0"),
        ({"n": 1}, "input 'x' is missing"),
        ({}, "inputs 'x', 'n' are missing"),
        ({"instances": [ROW, {"x": 1.0}]}, "input 'n' is missing at row 1"),
        ({"instances": [ROW, 3]}, "expected an object of columns at row 1, got a single value"),
        ({"instances": []}, "'instances' has no rows; send at least one"),
        ({"instances": 3}, "'instances' must be a list of rows, each an object of columns"),
        ([1, 2], 'expected an object: one row, or {"instances": [row, …]}'),
        (b"", "the body is not valid JSON: it is empty"),
        (b'{"x": 1.0', "the body is not valid JSON: Input data was truncated"),
        (
            b'{"x": NaN, "n": 1}',
            f"the body is not valid JSON: invalid character (byte 6); {NO_NAN}",
        ),
        (b'{"x": 1e400, "n": 1}', "the body is not valid JSON: Number out of range"),
        (
            b'{"x": "\xff"}',
            "the body is not valid JSON: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
        (b"[" * 100_000, "the body is nested too deeply; a row is one object of plain values"),
        (b'{"x": ' * 100_000, "the body is nested too deeply; a row is one object of plain values"),
        ({**ROW, "other": {"a": 1}}, "input 'other': expected a plain value, got a list or an object at row 0"),
    ],
)
def test_a_clients_mistake_is_a_sentence_and_leaves_no_record(serve, body, sentence):
    server = serve(wanted=table())
    reply = server.post("/predict", body)
    assert (reply.status, reply.error) == (400, sentence)
    assert server.records() == []
    assert server.metric('trueline_inference_requests_total{model="m",version="",role="",code="400"}') == 1


def test_an_unknown_category_is_served_and_counted_unless_the_contract_is_strict(serve):
    column = Column("plan", Kind.string, categories=("a", "b"))
    inputs = replace(SIGNATURE, inputs=(*SIGNATURE.inputs, column))
    strict = replace(SIGNATURE, inputs=(*SIGNATURE.inputs, replace(column, strict=True)))
    routes = (route(1), route(2, Arm.shadow, 0))
    server = serve({1: Fake(1, signature=inputs), 2: Fake(2, signature=strict)}, table(routes=routes))
    assert server.post("/predict", {**ROW, "plan": "z"}).status == 200
    assert server.metric('trueline_contract_warnings_total{model="m",version="1",column="plan"}') == 1
    server.put(table(epoch=2, routes=(route(2),)))
    reply = server.post("/predict", {**ROW, "plan": "z"})
    assert (reply.status, reply.error) == (
        400,
        "input 'plan': expected one of 2 known categories, got 'z' at row 0",
    )


def test_before_the_first_release_the_answer_is_503_and_readiness_false(serve):
    server = serve()
    reply = server.post("/predict", ROW)
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert reply.error == "no version of the model is released yet; release one and try again"
    assert server.get("/readyz").status == 503
    assert server.get("/livez").status == 200
    server.put(table())
    assert server.get("/readyz").json == {"ready": True}


def test_every_version_that_did_not_answer_scores_the_request_afterwards(serve):
    routes = (route(1, weight=0.5), route(2, Arm.canary, 0.5), route(3, Arm.shadow, 0))
    server = serve({1: Fake(1), 2: Fake(2), 3: Fake(3)}, table(routes=routes, release="r"))
    answers = [server.post("/predict", {"x": number, "n": 1}) for number in range(20)]
    told = {reply.headers["trueline-request-id"]: reply.json["version"] for reply in answers}
    assert set(told.values()) == {1, 2}
    predictions = {one.request_id: one for one in server.records(PredictionRecord)}
    shadows = server.records(ShadowRecord)
    assert {one.request_id: one.version for one in predictions.values()} == told
    pairs = {(one.request_id, one.version): one for one in shadows}
    assert set(pairs) == {(name, other) for name, version in told.items() for other in {1, 2, 3} - {version}}
    for (name, version), shadow in pairs.items():
        assert shadow.outputs == [predictions[name].features["x"][0] * version]
        assert (shadow.outcome, shadow.event_us, shadow.release) == ("answered", predictions[name].event_us, "r")
    assert server.metric("trueline_shadow_scores_total") == 40


def test_a_shadow_that_cannot_take_the_request_is_recorded_and_nobody_notices(serve):
    other = replace(SIGNATURE, inputs=(*SIGNATURE.inputs, Column("new", Kind.float32)))
    models = {1: Fake(1), 2: Fake(2, signature=other)}
    server = serve(models, table(routes=(route(1), route(2, Arm.shadow, 0))))
    assert server.post("/predict", ROW).status == 200
    (shadow,) = server.records(ShadowRecord)
    assert (shadow.outcome, shadow.error) == ("failed", "it cannot take this request: input 'new' is missing")


def test_shadow_scores_are_the_first_to_go_and_are_counted(serve):
    routes = (route(1), route(2, Arm.shadow, 0))
    server = serve({1: Fake(1), 2: Fake(2)}, table(routes=routes), shadow_waiting=5, shadow_seconds=60)
    for _ in range(8):
        assert server.post("/predict", ROW).status == 200
    assert server.metric('trueline_shadow_dropped_total{model="m",version="2"}') == 3
    assert len(server.records(ShadowRecord)) == 5, "the barrier of `status` brings in what is owed"
    assert len(server.records(PredictionRecord)) == 8


def refuse(_):
    raise ValueError("I will not")


BAD = [
    (refuse, "failed", "ValueError: I will not"),
    (lambda columns: np.full(len(columns["x"]), np.nan), "invalid_output", "the model gave nan at row 0, expected a"),
    (lambda columns: np.full(len(columns["x"]), np.inf), "invalid_output", "the model gave inf at row 0, expected a"),
    (lambda _: np.zeros((3, 3)), "invalid_output", r"the model gave (3, 3) for 1 rows, expected (1,)"),
    (lambda _: None, "invalid_output", "the model gave NoneType for 1 rows"),
]


@pytest.mark.parametrize(("function", "outcome", "why"), BAD)
def test_what_the_canary_cannot_answer_the_champion_does_and_the_canary_is_blamed(serve, function, outcome, why):
    routes = (route(1, weight=0.0), route(2, Arm.canary, 1.0), route(3, Arm.shadow, 0))
    server = serve({1: Fake(1), 2: Fake(2, function), 3: Fake(3)}, table(routes=routes))
    reply = server.post("/predict", ROW)
    assert (reply.status, reply.json["version"], reply.json["predictions"]) == (200, 1, [2.5])
    (record,) = server.records(PredictionRecord)
    assert (record.version, record.arm, record.outcome, record.answered_by) == (2, "canary", "fell_back", 1)
    assert record.outputs == [2.5]
    assert record.error.startswith(f"{outcome}: {why}")
    assert [shadow.version for shadow in server.records(ShadowRecord)] == [3], "who failed is not asked again"
    assert server.metric(f'trueline_inference_failures_total{{model="m",version="2",outcome="{outcome}"}}') == 1


@pytest.mark.parametrize(("function", "outcome", "why"), BAD)
def test_when_nobody_else_can_answer_the_client_gets_a_sentence(serve, function, outcome, why):
    server = serve({1: Fake(1, function)}, table())
    reply = server.post("/predict", ROW)
    (record,) = server.records(PredictionRecord)
    assert reply.status == 500
    assert reply.error.startswith(f"version 1 of 'm' could not answer: {why}")
    assert record.request_id in reply.error
    assert (record.outcome, record.answered_by, record.outputs) == (outcome, None, None)
    assert server.post("/predict", ROW).status == 500, "and the server is there for the next one"


def test_a_champion_that_fails_too_is_in_the_sentence(serve):
    routes = (route(1, weight=0.0), route(2, Arm.canary, 1.0))
    server = serve({1: Fake(1, refuse), 2: Fake(2, refuse)}, table(routes=routes))
    reply = server.post("/predict", ROW)
    assert reply.status == 500
    assert "nor could version 1" in reply.error
    (record,) = server.records(PredictionRecord)
    assert (record.version, record.outcome, record.answered_by) == (2, "failed", None)


def test_one_bad_row_does_not_fail_the_requests_it_was_batched_with(serve):
    def picky(columns):
        if 13 in columns["x"]:
            raise ValueError("unlucky")
        return np.array([np.nan if x == 7 else x for x in columns["x"]], dtype=float)

    server = serve({1: Fake(1, picky)}, table())
    with server.connect() as connection:
        rows = [1, 13, 2, 7, 3]
        bodies = [b'{"x":%d,"n":1}' % x for x in rows]
        head = b"POST /predict HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(b"".join(head % len(body) + body for body in bodies))
        connection.settimeout(10)
        received = b""
        while received.count(b"HTTP/1.1 ") < 5 or not received.endswith(b"}"):
            received += connection.recv(65536)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"500", b"200", b"500", b"200"]
    assert [one.outcome for one in server.records(PredictionRecord) if one.outcome == "answered"] == ["answered"] * 3
    assert server.metric("trueline_inference_batch_size_sum") > 5, "they were one batch before they were five"


def test_a_prediction_that_cannot_be_journalled_is_answered_and_said_to_be_unrecorded(serve, monkeypatch):
    server = serve(wanted=table())
    journal = server.server.plane.journal
    with monkeypatch.context() as patch:
        patch.setattr("trueline.journal.segments.os.write", full_disk)
        reply = server.post("/predict", ROW)
        labels = server.post("/labels", {"prediction_id": "p", "value": 1})
    assert (reply.status, reply.json["prediction_ids"]) == (200, [None])
    assert reply.headers["trueline-unrecorded"] == "the journal cannot be written"
    assert labels.status == 503
    assert "No space left" in labels.error
    assert journal.bytes_written == 0
    assert server.metric("trueline_unrecorded_total") == server.admin("status")["unrecorded"] == 1
    recorded = server.post("/predict", ROW)
    assert recorded.json["prediction_ids"] == [recorded.headers["trueline-request-id"] + "-0"], "with room all is well"
    assert len(server.records()) == 1


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_more_requests_than_can_wait_are_sent_away_for_a_second(serve):
    server = serve(wanted=table(), waiting=0)
    reply = server.post("/predict", ROW)
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert server.records() == []


def test_a_crash_of_the_process_before_is_journalled_against_the_version_it_was_scoring(serve, tmp_path):
    server = serve(wanted=table())
    server.stop()
    board = Scoreboard(tmp_path / "state" / "journal" / "r0" / "scoreboard")
    board.begin(4, 3, 1_000)
    board.close()
    server = serve()
    (record,) = server.records(CrashRecord)
    assert (record.version, record.in_flight, record.event_us) == (4, 3, 1_000)
    assert record.error == "the serving process died while it was scoring version 4"
    server.stop()
    assert len(serve().records(CrashRecord)) == 1, "it is recorded once"


def test_metrics_are_exposed_in_prometheus_form(serve):
    server = serve(wanted=table())
    server.post("/predict", {"instances": [ROW, ROW]})
    reply = server.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = reply.body.decode()
    assert 'trueline_inference_requests_total{model="m",version="1",role="champion",code="200"} 1' in text
    assert 'trueline_model_info{model="m",version="1",role="champion",executor="fake"} 1' in text
    assert 'trueline_inference_batch_size_bucket{model="m",version="1",le="2"} ' in text
    assert "trueline_inference_in_progress 0" in text
    assert server.metric("trueline_journal_bytes_total") > 50
    for line in text.splitlines():
        assert line.startswith("#") or len(line.rsplit(" ", 1)) == 2


LONG = 10**20  # as JavaScript writes 1e20


@pytest.mark.parametrize("model", [Fake(1), "child"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"x": LONG, "n": 1, "more": 1}),
        ("/v1/models/m:predict", {"instances": [[LONG, 1]]}),
        ("/invocations", {"inputs": {"x": [LONG], "n": [1]}}),
        (
            "/v2/models/m/infer",
            {
                "inputs": [
                    {"name": "x", "shape": [1], "datatype": "FP64", "data": [LONG]},
                    {"name": "n", "shape": [1], "datatype": "INT64", "data": [1]},
                    {"name": "more", "shape": [1], "datatype": "INT64", "data": [1]},
                ]
            },
        ),
    ],
)
def test_a_float_written_as_a_long_integer_is_answered_and_recorded(serve, model, path, body):
    server = serve({1: model}, table())
    assert server.post(path, body).status == 200
    (record,) = server.records(PredictionRecord)
    assert record.features["x"] == [1e20]
    assert server.post("/predict", {"x": 1, "n": 1}).status == 200
    assert server.metric("trueline_inference_in_progress") == 0


def test_a_record_that_cannot_be_written_is_answered_as_unrecorded_and_the_lane_goes_on(serve, monkeypatch):
    server = serve(wanted=table())
    monkeypatch.setattr(Checks, "check", lambda *_: [])
    reply = server.post("/predict", {"x": 2**70, "n": 1, "more": 1})
    assert (reply.status, reply.json["prediction_ids"]) == (200, [None])
    assert server.post("/predict", {"x": 1, "n": 1}).json["prediction_ids"] != [None]
    assert server.metric("trueline_inference_in_progress") == 0


def test_a_defect_in_one_answer_is_a_500_of_that_request_and_keeps_nobody_else_waiting(serve, monkeypatch, caplog):
    server = serve({1: "child"}, table())
    encode = predict.encode
    monkeypatch.setattr(predict, "encode", lambda answer: encode(answer) if answer.outputs != [100.0] else 1 / 0)
    asked = [b"POST /predict HTTP/1.1\r\nContent-Length: 13\r\n\r\n" + b'{"x":%d,"n":1}' % x for x in (0, 1, 2)]
    received = server.raw(b"".join(asked))
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"500", b"200"]
    assert b"an unexpected error happened here" in received
    assert any("a defect in trueline, while answering" in one for one in caplog.messages)


def test_a_defect_where_batches_come_back_does_not_stop_their_lane(serve, monkeypatch):
    server = serve(wanted=table())
    lane = server.server.plane.versions.pinned(1).lane
    settle, calls = lane._settle, []

    def fails_once(*given):
        calls.append(given)
        if len(calls) == 1:
            raise RuntimeError
        settle(*given)

    monkeypatch.setattr(lane, "_settle", fails_once)
    with server.connect() as connection:  # never answered, which is what a defect costs
        connection.sendall(b'POST /predict HTTP/1.1\r\nContent-Length: 13\r\n\r\n{"x":2,"n":1}')
        eventually(lambda: calls)
        assert server.post("/predict", {"x": 1, "n": 1}).status == 200
