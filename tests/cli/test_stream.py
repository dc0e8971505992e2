"""`trueline stream` before it reaches Kafka: its settings, and what keeps it from starting."""

from __future__ import annotations

import sys

import pytest

from trueline import streaming
from trueline.cli import stream
from trueline.errors import InvalidInput, InvalidProject

TOPICS = ("--input", "in", "--output", "out", "--dead-letter", "dead")


def test_settings_come_from_the_file_then_from_x_and_secrets_by_reference(tmp_path, monkeypatch):
    monkeypatch.setenv("KAFKA_PASSWORD", "s3cret")
    (tmp_path / "ca.pem").write_text("certificate\n")
    file = tmp_path / "client.properties"
    file.write_text(
        "# of the team\n! and so is this\n\nsecurity.protocol = SASL_SSL\nsasl.password=env:KAFKA_PASSWORD\n"
        "sasl.username=a=b\nssl.ca.pem=file:ca.pem\nfetch.min.bytes=1\n"
    )
    assert stream.settings("k:9092", file, ("fetch.min.bytes=2",)) == {
        "security.protocol": "SASL_SSL",
        "sasl.password": "s3cret",
        "sasl.username": "a=b",
        "ssl.ca.pem": "certificate",
        "fetch.min.bytes": "2",
        "bootstrap.servers": "k:9092",
    }


@pytest.mark.parametrize("line", ["nonsense", "=value"])
def test_a_line_that_sets_nothing_is_a_sentence(line):
    with pytest.raises(InvalidInput, match="is not a setting of Kafka's client; expected name=value"):
        stream.settings("k:9092", None, (line,))


def test_a_secret_that_is_not_there_is_a_sentence():
    with pytest.raises(InvalidProject, match=r"sasl\.password is env:NOT_SET, but the environment variable NOT_SET"):
        stream.settings("k:9092", None, ("sasl.password=env:NOT_SET",))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (TOPICS, 6, "no model server runs on"),
        ((*TOPICS, "--server", "m:80"), 2, "m:80 is not the address of a model server; expected http://HOST:PORT"),
        ((*TOPICS, "--server", "http://m:x"), 2, "http://m:x is not the address of a model server; expected"),
        (
            (*TOPICS, "--server", "http://127.0.0.1:9"),
            6,
            "the model server at http://127.0.0.1:9 cannot be reached (Connection refused); start it, or correct --server",
        ),
        ((*TOPICS, "--server", "http://a..b"), 6, "the model server at http://a..b cannot be reached"),
        ((*TOPICS, "--labels", "out"), 2, "--input, --output, --dead-letter and --labels must be different topics"),
        ((*TOPICS, "-X", "acks=1"), 2, "acks cannot be given here: at-least-once rests on it"),
        ((*TOPICS, "-X", "group.id=g"), 2, "group.id cannot be given here: use --group"),
    ],
)
def test_what_keeps_it_from_starting_is_a_sentence(trueline, arguments, code, said):
    done = trueline("stream", "-b", "k:9092", *arguments)
    assert done.code == code
    assert done.err.startswith(f"trueline: {said}")


def test_without_kafkas_client_it_says_what_to_install(trueline, monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    monkeypatch.delitem(sys.modules, "trueline.streaming.kafka", raising=False)
    monkeypatch.delattr(streaming, "kafka", raising=False)
    done = trueline("stream", "-b", "k:9092", *TOPICS)
    assert (done.code, done.err) == (6, "trueline: Kafka's client is not installed; pip install 'trueline[kafka]'\n")
