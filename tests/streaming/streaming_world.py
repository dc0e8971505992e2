"""What tests of the stream share: a client of Kafka, and `trueline stream` as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass

from confluent_kafka import Consumer, Producer, TopicPartition

PARTITIONS = 4  # of every topic of the mock cluster


@dataclass(frozen=True)
class Seen:
    """A message of an output topic."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def id(self) -> str:
        return self.headers["ce_id"].decode()

    @property
    def json(self):
        return json.loads(self.value)


class Topics:
    """Puts messages in and sees what comes out."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 1, "log_level": 0})

    def put(self, topic, values, *, key="k", headers=()):
        """The ids (topic-partition-offset) of what was put."""
        ids = []

        def delivered(error, message):
            assert error is None, error
            ids.append(f"{topic}-{message.partition()}-{message.offset()}")

        for number, value in enumerate(values):
            body = value if isinstance(value, bytes | None) else json.dumps(value).encode()
            name = f"{key}{number}".encode()
            self._producer.produce(topic, body, name, headers=list(headers), on_delivery=delivered)
            self._producer.poll(0)
        assert self._producer.flush(20) == 0
        return ids

    def all(self, topic) -> list[Seen]:
        """Everything that is in a topic now."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "looks", "log_level": 0})
        try:
            if topic not in consumer.list_topics(timeout=20).topics:
                return []
            ends = {}
            for number in range(PARTITIONS):
                place = TopicPartition(topic, number, 0)
                low, high = consumer.get_watermark_offsets(place, timeout=20)
                if high > low:
                    ends[number] = high
            consumer.assign([TopicPartition(topic, number, 0) for number in ends])
            found = []
            left = dict(ends)
            deadline = time.monotonic() + 30
            while left:
                assert time.monotonic() < deadline
                for one in consumer.consume(1000, 0.1):
                    assert one.error() is None, one.error()
                    found.append(Seen(one.key(), one.value(), dict(one.headers() or ())))
                    if one.offset() + 1 >= left.get(one.partition(), 0):
                        left.pop(one.partition(), None)
            return found
        finally:
            consumer.close()

    def committed(self, topic, group) -> dict[int, int]:
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": group, "log_level": 0})
        try:
            places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
            return {one.partition: max(one.offset, 0) for one in consumer.committed(places, timeout=20)}
        finally:
            consumer.close()

    def lag(self, topic, group) -> int:
        """Messages that the group has not committed."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "looks", "log_level": 0})
        try:
            done = self.committed(topic, group)
            ends = [consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=20)[1] for n in range(PARTITIONS)]
            return sum(ends) - sum(done.values())
        finally:
            consumer.close()


class Stream:
    """`trueline stream` from `in` to `out`, refused messages to `dead`."""

    def __init__(self, servers, url, *arguments):
        command = [sys.executable, "-m", "trueline", "stream", "--json", "-b", servers, "--server", url]
        topics = ["--input", "in", "--output", "out", "--dead-letter", "dead", "--group", "g"]
        fast = ["session.timeout.ms=6000", "heartbeat.interval.ms=500", "topic.metadata.refresh.interval.ms=1000"]
        self.popen = subprocess.Popen(
            [*command, *topics, *(word for one in fast for word in ("-X", one)), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []  # lines of stderr so far
        self._ear = threading.Thread(target=self._listen)
        self._ear.start()

    def _listen(self):
        for line in self.popen.stderr:
            self.said.append(line.rstrip("\n"))  # as they come, not all at the end

    def _finish(self):
        out = self.popen.stdout.read()
        self.popen.wait(30)
        self._ear.join(30)
        self.popen.stdout.close()
        self.popen.stderr.close()
        return out

    def kill(self):
        self.popen.kill()
        self._finish()

    def end(self, how=signal.SIGTERM):
        """Exit code, and what it counted."""
        self.popen.send_signal(how)
        out = self._finish()
        return self.popen.returncode, json.loads(out) if out else None

    def ended(self):
        """Exit code, of one that ends by itself."""
        self._finish()
        return self.popen.returncode


def doubles(seen: list[Seen]) -> int:
    """How many outputs are of a message that had one; all of one id must say the same of the same key."""
    by_id = Counter(one.id for one in seen)
    assert len({(one.id, one.key, tuple(one.json["predictions"])) for one in seen}) == len(by_id)
    return sum(by_id.values()) - len(by_id)
