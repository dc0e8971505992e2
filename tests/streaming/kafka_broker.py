"""A Kafka that speaks the real protocol over TCP: librdkafka's mock cluster, in a process of its own.

`python kafka_broker.py` prints its addresses and lives until its stdin ends. What it cannot do: ACLs, TLS, compaction, and
surviving its own death (everything is in memory).
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager


def main() -> None:
    from confluent_kafka import Producer

    cluster = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 3, "log_level": 0})
    brokers = cluster.list_topics(timeout=20).brokers.values()
    print(",".join(f"{one.host}:{one.port}" for one in brokers), flush=True)  # noqa: T201
    sys.stdin.read()


@contextmanager
def running():
    """Its process, with the addresses as `servers`."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        process.servers = process.stdout.readline().strip()
        assert process.servers
        try:
            yield process
        finally:
            process.kill()


if __name__ == "__main__":
    main()
