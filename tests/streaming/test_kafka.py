"""`trueline stream` as a process, a Kafka that speaks the real protocol in another, a real model server between them."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections import Counter

import pytest
from serving_world import Fake, eventually
from streaming_world import doubles

from trueline.journal.records import LabelRecord, PredictionRecord

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


def rows(count, start=0):
    return [{"x": number, "n": 1} for number in range(start, start + count)]


def drained(topics, stream=None, source="in"):
    def nothing_left():
        assert stream is None or stream.popen.poll() is None, stream.said
        return topics.lag(source, "g") == 0

    eventually(nothing_left, 90)


def test_messages_become_predictions_dead_letters_and_labels(serve, topics, stream):
    server = serve()
    ids = topics.put("in", rows(300), headers=[("ce_id", b"77"), ("traceparent", b"00-1-2-03")])
    bad = topics.put("in", [b"{", {"x": "a", "n": 1}, None, {"n": 1}], key="bad", headers=[("tenant", b"z")])
    one = stream(server, "--labels", "truth")
    drained(topics, one)
    out = topics.all("out")
    assert sorted(one.id for one in out) == sorted(ids)
    assert all(int(one.key[1:]) == one.json["predictions"][0] for one in out)  # the key stays with its row
    assert {one.headers["ce_causationid"] for one in out} == {b"77"}
    assert {one.headers["traceparent"] for one in out} == {b"00-1-2-03"}
    dead = topics.all("dead")
    assert sorted(letter.headers["trueline.errors.message"].decode() for letter in dead) == [
        "input 'x' is missing",
        "input 'x': expected float64, got string at row 0",
        "the body is not valid JSON: Input data was truncated",
        "the message has no value; send a row as a JSON object",
    ]
    places = [
        [letter.headers[f"trueline.errors.{name}"].decode() for name in ("topic", "partition", "offset")]
        for letter in dead
    ]
    assert sorted(map("-".join, places)) == sorted(bad)
    assert {letter.headers["tenant"] for letter in dead} == {b"z"}
    labelled = [{"prediction_id": one.json["prediction_ids"][0], "value": 1} for one in out]
    topics.put("truth", [*labelled, {"value": 1}])
    eventually(lambda: len(server.records(LabelRecord)) == 300, 60)
    drained(topics, one, "truth")
    code, counts = one.end()
    assert (code, counts) == (0, {"predictions": 300, "labels": 300, "dead_letters": 5, "retries": 0})
    assert len(server.records(PredictionRecord)) == 300
    again = stream(server)  # what was committed does not come again
    topics.put("in", rows(1, 1000), key="new")
    drained(topics, again)
    assert again.end()[1]["predictions"] == 1


def test_killed_at_any_moment_it_loses_nothing_and_doubles_have_equal_ids(serve, topics, stream, record_property):
    slow = threading.Event()

    def model(columns):
        import numpy as np

        slow.wait(0.002)  # so that there is a middle to be killed in
        return np.array(columns["x"], dtype=float)

    server = serve(Fake(1, model))
    ids = topics.put("in", rows(6000))
    kills = 6
    for number in range(1, kills + 1):
        one = stream(server)
        seen = len(server.records(PredictionRecord))
        eventually(lambda seen=seen, step=97 * number: len(server.records(PredictionRecord)) > seen + step, 60)
        one.kill()
    last = stream(server)
    drained(topics, last)
    assert last.end()[0] == 0
    out = topics.all("out")
    assert {one.id for one in out} == set(ids)
    assert not topics.all("dead")
    record_property("outputs_twice", doubles(out))
    records = Counter(one.unit for one in server.records(PredictionRecord))
    assert set(records) == set(ids)
    assert set(records.values()) == {1}  # the server knew the keys of those that came again


def test_two_share_the_partitions_and_one_takes_over_from_the_other(serve, topics, stream):
    server = serve()
    ids = topics.put("in", rows(2000))
    first = stream(server)
    eventually(lambda: topics.lag("in", "g") < 2000, 60)
    second = stream(server)
    for number in range(1, 20):
        ids += topics.put("in", rows(100, 2000 * number), key=f"r{number}-")
        if number == 15:
            assert first.end()[0] == 0
    drained(topics, second)
    code, counts = second.end()
    assert (code, counts["dead_letters"]) == (0, 0)
    out = topics.all("out")
    assert {one.id for one in out} == set(ids)
    assert counts["predictions"] > 0
    doubles(out)


def test_an_overloaded_and_an_absent_model_server_are_waited_for(serve, topics, stream):
    server = serve(waiting=8)  # less than a pipeline: most of it gets 429
    ids = topics.put("in", rows(500))
    one = stream(server)
    eventually(lambda: topics.lag("in", "g") == 0, 90)
    port = server.port
    server.stop()
    ids += topics.put("in", rows(200, 500), key="later")
    eventually(lambda: any("cannot be reached" in line for line in one.said))
    serve(port=port)
    drained(topics, one)
    code, counts = one.end()
    assert (code, counts["dead_letters"], counts["predictions"]) == (0, 0, 700)
    assert counts["retries"] > 0
    assert {one.id for one in topics.all("out")} == set(ids)


def test_a_broker_that_stops_answering_is_waited_for(serve, topics, stream, broker):
    server = serve()
    ids = topics.put("in", rows(200))
    one = stream(server)
    drained(topics, one)
    ids += topics.put("in", rows(300, 200), key="more")
    broker.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            one.popen.wait(4)  # it neither ends nor gives up
    finally:
        broker.send_signal(signal.SIGCONT)
    drained(topics, one)
    assert one.end()[0] == 0
    assert {seen.id for seen in topics.all("out")} == set(ids)


def test_told_to_stop_while_the_model_server_is_away_it_stops(serve, topics, stream):
    server = serve()
    topics.put("in", rows(10))
    one = stream(server)
    drained(topics, one)
    server.stop()
    topics.put("in", rows(10), key="later")
    code, counts = one.end()
    assert (code, counts["predictions"]) == (0, 10)
    assert topics.lag("in", "g") in (0, 10)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-X", "enable.auto.commit=true"], 2, "enable.auto.commit cannot be given here: at-least-once rests on it"),
        (
            ["-X", "no.such.thing=1"],
            2,
            "Kafka's client does not take this configuration: No such configuration property",
        ),
        (["-X", "nonsense"], 2, "'nonsense' is not a setting of Kafka's client; expected name=value"),
        (["--labels", "in"], 2, "--input, --output, --dead-letter and --labels must be different topics"),
    ],
)
def test_a_wrong_configuration_is_a_sentence(serve, stream, arguments, code, said):
    one = stream(serve(), *arguments)
    assert one.ended() == code
    (line,) = one.said
    assert line.startswith(f"trueline: {said}")
