"""A Kafka that is not there: one sentence, whatever its client would say to each attempt."""

from __future__ import annotations

import time

import pytest

kafka = pytest.importorskip("trueline.streaming.kafka")


def test_no_broker_is_one_sentence_and_nothing_else_on_stderr(capfd):
    said = []
    source = kafka.KafkaSource(["in"], "g", {"bootstrap.servers": "127.0.0.1:1"}, said.append)
    sink = kafka.KafkaSink({"bootstrap.servers": "127.0.0.1:1"}, said.append)
    end = time.monotonic() + 10
    while not said and time.monotonic() < end:
        source.take(10, 0.1)
    for _ in range(10):
        source.take(10, 0.1)
    source.close()
    sink.close()
    (sentence,) = said
    assert sentence.startswith("Kafka: no broker answers (127.0.0.1:1: Connect to ipv4#127.0.0.1:1 failed: ")
    assert sentence.endswith("; see to --bootstrap-servers, or wait; it is tried again until it works")
    assert capfd.readouterr().err == ""


class Error:
    def __init__(self, code, text, *, fatal=False):
        self.code, self.str, self.fatal = (lambda: code), (lambda: text), (lambda: fatal)


def test_a_topic_that_is_not_there_is_told_once_a_minute(monkeypatch):
    said, now = [], [0.0]
    monkeypatch.setattr(kafka.time, "monotonic", lambda: now[0])
    trouble = kafka.Trouble(said.append)
    unknown = Error(kafka.KafkaError.UNKNOWN_TOPIC_OR_PART, "Subscribed topic not available: inn")
    for now[0] in (0.0, 1.0, 59.0, 61.0):
        trouble(unknown)
    assert said == ["Kafka: Subscribed topic not available: inn; it is tried again until it works"] * 2
    trouble(Error(kafka.KafkaError._PARTITION_EOF, "the end"))
    trouble(Error(kafka.KafkaError._FATAL, "fenced", fatal=True))
    assert said[2:] == ["Kafka: fenced"]
