"""The loop against a Kafka of lists: what is produced, what is committed, and when."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from trueline.errors import NotAuthenticated, Unavailable
from trueline.streaming.asking import Reply
from trueline.streaming.loop import PIPELINE, Streamer, Topics
from trueline.streaming.messages import Message

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@dataclass
class Lists:
    """Source and sink; `log` has sends and commits in their order."""

    batches: deque
    log: list = field(default_factory=list)
    waits: list = field(default_factory=list)
    acknowledges: bool = True
    stop: object = None
    stop_at_wait: int | None = None

    def take(self, most, seconds):
        del most, seconds
        if not self.batches:
            self.stop.set()
        return self.batches.popleft() if self.batches else []

    def wait(self, seconds):
        self.waits.append(seconds)
        if len(self.waits) == self.stop_at_wait:
            self.stop.set()

    def commit(self, done):
        self.log.append(("commit", [one.id for one in done]))

    def send(self, outgoing):
        headers = dict(outgoing.headers)
        name = headers.get("ce_id", headers.get("trueline.errors.message"))
        self.log.append((outgoing.topic, name.decode()))

    def flush(self, wait, stop):
        del wait, stop
        return self.acknowledges

    def close(self):
        self.log.append("closed")


@dataclass
class Scripted:
    """A model server: `says` gives the reply to a request, by the number of its round."""

    says: object
    url: str = "http://m:1"
    asked: list = field(default_factory=list)

    def ask(self, requests):
        self.asked.append([one.id for one in requests])
        return [self.says(one, len(self.asked)) for one in requests]

    def close(self):
        pass


def ok(request, attempt):
    del request, attempt
    return Reply(200, b'{"predictions":[1.0],"prediction_ids":["p"],"model":"m","version":1}')


def refused(status, sentence="no", wait=None):
    return Reply(status, json.dumps({"error": sentence}).encode(), wait)


def message(offset, partition=0, topic="in", value=b"{}"):
    return Message(topic, partition, offset, b"k", value, (), 0)


def run(lists, says=ok, labels=None):
    said = []
    topics = Topics("in", "out", "dead", "g", labels)
    streamer = Streamer(lists, lists, Scripted(says), topics, said.append, now=lambda: NOW)
    lists.stop = streamer.stop
    streamer.run()
    return streamer, said


def test_offsets_are_committed_after_what_was_made_of_them():
    lists = Lists(deque([[message(0), message(1)], [message(2)]]))
    run(lists)
    assert lists.log == [
        ("out", "in-0-0"),
        ("out", "in-0-1"),
        ("commit", ["in-0-0", "in-0-1"]),
        ("out", "in-0-2"),
        ("commit", ["in-0-2"]),
    ]


def test_what_was_not_acknowledged_is_not_committed():
    lists = Lists(deque([[message(0)]]), acknowledges=False)
    run(lists)
    assert lists.log == [("out", "in-0-0")]


@pytest.mark.parametrize("status", [400, 413, 415, 422, 500])
def test_a_refused_message_is_a_dead_letter_in_its_place(status):
    def says(request, attempt):
        return refused(status, "bad row") if request.id == "in-0-1" else ok(request, attempt)

    lists = Lists(deque([[message(0), message(1), message(2, value=None), message(3)]]))
    streamer, said = run(lists, says)
    assert [one[0] for one in lists.log] == ["out", "dead", "dead", "out", "commit"]
    assert lists.log[1] == ("dead", "bad row")
    assert (streamer.counts.predictions, streamer.counts.dead_letters) == (2, 2)
    assert said == ["in-0-1 goes to dead: bad row (further ones are counted, not told)"]


@pytest.mark.parametrize("trouble", [refused(429), refused(503), refused(503, wait=2.0), refused(408), None])
def test_an_overloaded_or_absent_server_is_asked_again_and_nothing_is_a_dead_letter(trouble):
    def says(request, attempt):
        return trouble if attempt < 4 else ok(request, attempt)

    lists = Lists(deque([[message(number) for number in range(3)]]))
    streamer, said = run(lists, says)
    assert lists.log == [
        *[("out", f"in-0-{number}") for number in range(3)],
        ("commit", ["in-0-0", "in-0-1", "in-0-2"]),
    ]
    assert streamer.counts.dead_letters == 0
    assert lists.waits == sorted(lists.waits)
    assert all(0.1 <= one <= 5.0 for one in lists.waits)
    assert trouble is None or trouble.retry_after is None or min(lists.waits) >= 2.0
    assert said[-1] == "the model server answers again"
    assert len(said) == 2


def test_a_server_with_too_much_to_do_is_asked_less_at_once():
    def says(request, attempt):
        return refused(429) if attempt == 1 and int(request.id.rpartition("-")[2]) >= 40 else ok(request, attempt)

    lists = Lists(deque([[message(number) for number in range(PIPELINE + 80)]]))
    streamer, _ = run(lists, says)
    sizes = [len(names) for names in streamer.server.asked]
    assert sizes == [PIPELINE, 40, 45, 19]
    assert lists.log[-1][0] == "commit"


def test_told_to_stop_while_the_server_is_away_it_delivers_what_it_has_and_commits_no_further():
    def says(request, attempt):
        return None if request.id == "in-0-1" else ok(request, attempt)

    lists = Lists(deque([[message(0), message(1), message(2), message(4, partition=1)], []]), stop_at_wait=2)
    run(lists, says)
    assert lists.log == [("out", "in-0-0"), ("out", "in-1-4"), ("commit", ["in-0-0", "in-1-4"])]


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (401, NotAuthenticated, "the model server at http://m:1 refuses: no; set TRUELINE_TOKEN"),
        (403, NotAuthenticated, "the model server at http://m:1 refuses: no; set TRUELINE_TOKEN"),
        (404, Unavailable, "http://m:1 answers 404 (no), so it is no model server of trueline; see --server"),
    ],
)
def test_what_no_message_is_to_blame_for_stops_it_and_nothing_is_committed(status, error, said):
    lists = Lists(deque([[message(0)]]))
    with pytest.raises(error) as caught:
        run(lists, lambda request, attempt: refused(status))  # noqa: ARG005
    assert str(caught.value) == said
    assert lists.log == []


def test_labels_go_to_labels_and_leave_no_output():
    asked = []

    def says(request, attempt):
        asked.append(request.path)
        return ok(request, attempt)

    lists = Lists(deque([[message(0, topic="truth"), message(0)]]))
    streamer, _ = run(lists, says, labels="truth")
    assert asked == ["/labels", "/predict"]
    assert lists.log == [("out", "in-0-0"), ("commit", ["truth-0-0", "in-0-0"])]
    assert (streamer.counts.labels, streamer.counts.predictions) == (1, 1)
