"""Kafka behind the loop's ports, with librdkafka; the only module that knows confluent-kafka, the extra `kafka`.

The settings that the promise rests on are ours and cannot be given: offsets are committed by hand, and the producer is
idempotent and tries until it is acknowledged. Everything else (addresses, TLS, SASL) is librdkafka's own configuration.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from trueline.errors import InvalidInput, Unavailable
from trueline.streaming import messages
from trueline.streaming.messages import Message, Outgoing

OURS: Mapping[str, str | bool | int] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.idempotence": True,
    "acks": "all",
    "message.timeout.ms": 0,  # never given up: what is not acknowledged is not committed either
}
_CONSUMER = ("enable.auto.commit", "enable.auto.offset.store")
_LOST = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._NO_OFFSET,  # noqa: SLF001  librdkafka's own errors begin with an underscore
        KafkaError._ASSIGNMENT_LOST,  # noqa: SLF001
    }
)
"""A commit that came too late: the partition is another's by now, who gets its messages again."""

_CONNECTING = frozenset(
    {KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._AUTHENTICATION, KafkaError._SSL}  # noqa: SLF001
)
COMMON: Mapping[str, str | int] = {
    "client.id": "trueline",
    "log_level": 2,  # its own lines say the same twenty times a second
}
DRAIN_SECONDS = 8.0
QUIET_SECONDS = 60.0


class KafkaSource:
    """A member of a consumer group."""

    def __init__(self, topics: Sequence[str], group: str, given: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._say = say
        self._heard = Trouble(say)
        self._early: deque[Message] = deque()  # came while we waited
        own = {name: OURS[name] for name in _CONSUMER}
        config = {"auto.offset.reset": "earliest", **COMMON, **given, **own, "group.id": group}
        self._consumer = _made(Consumer, {**config, "error_cb": self._heard})
        self._consumer.subscribe(list(topics))

    def take(self, most: int, seconds: float) -> list[Message]:
        taken = [self._early.popleft() for _ in range(min(most, len(self._early)))]
        if taken:
            return taken
        first = self._consumer.poll(seconds)  # `consume` alone would wait for the batch to be full
        if first is None:
            return []
        found = [first, *self._consumer.consume(most - 1, 0.0)]
        return [_message(one) for one in found if self._good(one)]

    def wait(self, seconds: float) -> None:
        """Poll with everything paused: polling is what tells the group that we live."""
        assigned = self._consumer.assignment()
        if assigned:
            self._consumer.pause(assigned)
        one = self._consumer.poll(seconds)
        if one is not None and self._good(one):  # of a partition that was assigned just now
            self._early.append(_message(one))
        if assigned:
            still = set(map(_place, self._consumer.assignment()))
            self._consumer.resume([one for one in assigned if _place(one) in still])

    def commit(self, done: Sequence[Message]) -> None:
        assigned = set(map(_place, self._consumer.assignment()))
        ends = messages.ends(done)
        offsets = [TopicPartition(*place, end) for place, end in ends.items() if place in assigned]
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as problem:
            error = problem.args[0]
            if error.code() not in _LOST and not error.retriable():
                raise Unavailable(f"Kafka does not take the group's offsets: {error.str()}") from None
            self._say(f"offsets were not committed ({error.str()}); their messages come again")

    def close(self) -> None:
        self._consumer.close()

    def _good(self, one: Any) -> bool:
        """Whether it is a message; an error that time does not mend is raised."""
        error = one.error()
        if error is None:
            return True
        if error.fatal() or error.code() in _HOPELESS:
            raise Unavailable(f"Kafka does not give us messages: {error.str()}")
        self._heard(error)
        return False


class KafkaSink:
    def __init__(self, given: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._refused: list[tuple[Outgoing, Any]] = []
        own = {name: value for name, value in OURS.items() if name not in _CONSUMER}
        taken = {name: value for name, value in given.items() if not name.startswith(_CONSUMER_ONLY)}
        config = {"linger.ms": 1, **COMMON, **taken, **own}
        fatal = Trouble(say, fatal_only=True)  # that no broker answers is the source's to tell
        self._producer = _made(Producer, {**config, "error_cb": fatal})

    def send(self, outgoing: Outgoing) -> None:
        def delivered(error: Any, _: Any) -> None:
            if error is not None:
                self._refused.append((outgoing, error))

        while True:
            try:
                self._producer.produce(
                    outgoing.topic, outgoing.value, outgoing.key, headers=list(outgoing.headers), on_delivery=delivered
                )
            except BufferError:  # more than it holds: let some of it leave
                self._producer.poll(0.1)
            except KafkaException as problem:
                self._refused.append((outgoing, problem.args[0]))
                return
            else:
                return

    def flush(self, wait: Callable[[float], None], stop: Event) -> bool:
        """Until all of it is acknowledged, however long a broker is away; a stop ends the patience."""
        patience = DRAIN_SECONDS
        while self._producer.flush(1.0) or self._refused:
            self._again()
            wait(0.0)
            if stop.is_set():
                patience -= 1.0
                if patience < 0:
                    return False
        return True

    def close(self) -> None:
        self._producer.purge()
        self._producer.flush(1.0)

    def _again(self) -> None:
        """What Kafka refused: a dead letter that is too large goes without its value, anything else is a reason to stop."""
        refused, self._refused = self._refused, []
        for outgoing, error in refused:
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and outgoing.value is not None and _is_letter(outgoing):
                self.send(messages.without_value(outgoing))
            else:
                raise Unavailable(f"Kafka does not take a message for {outgoing.topic}: {error.str()}")


_HOPELESS = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
    }
)
_CONSUMER_ONLY = ("auto.offset.", "group.", "session.", "heartbeat.", "max.poll.", "fetch.", "partition.assignment.")


def check(given: Mapping[str, str]) -> None:
    """Refuse configuration that would take the promise away."""
    for name in given:
        if name in OURS or name == "group.id":
            instead = "use --group" if name == "group.id" else "at-least-once rests on it"
            raise InvalidInput(f"{name} cannot be given here: {instead}")


def _made(kind: Any, config: dict[str, Any]) -> Any:
    try:
        return kind(config)
    except KafkaException as problem:
        raise InvalidInput(f"Kafka's client does not take this configuration: {problem.args[0].str()}") from None
    except (TypeError, ValueError) as problem:
        raise InvalidInput(f"Kafka's client does not take this configuration: {problem}") from None


def _message(one: Any) -> Message:
    kind, time_ms = one.timestamp()
    return Message(
        topic=one.topic(),
        partition=one.partition(),
        offset=one.offset(),
        key=one.key(),
        value=one.value(),
        headers=tuple(one.headers() or ()),
        time_ms=None if kind == 0 else time_ms,
    )


def _place(one: Any) -> tuple[str, int]:
    return one.topic, one.partition


def _is_letter(outgoing: Outgoing) -> bool:
    return any(name.startswith(messages.ERRORS) for name, _ in outgoing.headers)


class Trouble:
    """Tells what goes on for a while once a minute, and not for each attempt."""

    def __init__(self, say: Callable[[str], None], *, fatal_only: bool = False) -> None:
        self._say = say
        self._fatal_only = fatal_only
        self._why = ""
        self._told: dict[int, float] = {}

    def __call__(self, error: Any) -> None:
        code, text = error.code(), error.str()
        if error.fatal():
            self._say(f"Kafka: {text}")
        elif self._fatal_only or code == KafkaError._PARTITION_EOF:  # noqa: SLF001
            return
        elif code in _CONNECTING:
            self._why = f" ({text.partition(' (after ')[0].replace('/bootstrap', '')})"
        elif time.monotonic() - self._told.get(code, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._told[code] = time.monotonic()
            down = code == KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
            what = f"no broker answers{self._why}; see to --bootstrap-servers, or wait" if down else text
            self._say(f"Kafka: {what}; it is tried again until it works")
