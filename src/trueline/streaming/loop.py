"""From topic to topic: take a batch, have it answered, produce, and only then commit.

Nothing is lost at any moment of this: an offset is committed after Kafka has acknowledged what was made of its message, so a
process that is killed leaves uncommitted messages behind, which come again to whoever gets their partition. They may be
answered twice then, with the same ids. Outputs leave in the order of their messages, for a batch is produced as a whole.

While the model server is overloaded or away, the batch waits, and so does what is behind it; the consumer stays in its group
meanwhile, for `Source.wait` goes on polling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from typing import Protocol

from trueline.streaming import messages, outcomes
from trueline.streaming.asking import Reply, Request
from trueline.streaming.messages import Asked, Message, Outgoing
from trueline.streaming.outcomes import Outcome

BATCH = 500  # messages
PIPELINE = 64  # requests sent before their answers are awaited
PIPELINE_BYTES = 1_000_000
PATIENCE = (0.1, 5.0)  # seconds between attempts: the first, and at most


class Source(Protocol):
    """Where messages come from."""

    def take(self, most: int, seconds: float) -> list[Message]: ...
    def wait(self, seconds: float) -> None:
        """Let time pass and stay a member of the group."""

    def commit(self, done: Sequence[Message]) -> None: ...
    def close(self) -> None: ...


class Sink(Protocol):
    """Where outputs go."""

    def send(self, outgoing: Outgoing) -> None: ...
    def flush(self, wait: Callable[[float], None], stop: Event) -> bool:
        """Whether everything sent was acknowledged: False only when told to stop while a broker is away."""

    def close(self) -> None: ...


class Server(Protocol):
    """Who answers."""

    url: str

    def ask(self, requests: Sequence[Request]) -> list[Reply | None]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Topics:
    input: str
    output: str
    dead_letter: str
    group: str
    labels: str | None = None


@dataclass
class Counts:
    """What came of all messages so far."""

    predictions: int = 0
    labels: int = 0
    dead_letters: int = 0
    retries: int = 0


@dataclass
class Streamer:
    source: Source
    sink: Sink
    server: Server
    topics: Topics
    say: Callable[[str], None]
    stop: Event = field(default_factory=Event)
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    counts: Counts = field(default_factory=Counts)
    _window: int = PIPELINE
    _waiting: bool = False  # for the model server, which was said

    def run(self) -> None:
        """Go on until told to stop; what was taken by then is finished, or left uncommitted when it cannot be."""
        while not self.stop.is_set():
            batch = self.source.take(BATCH, 0.5)
            if batch:
                self._work_off(batch)

    def close(self) -> None:
        self.source.close()
        self.sink.close()
        self.server.close()

    def _work_off(self, batch: Sequence[Message]) -> None:
        asked = {one.id: messages.read(one) for one in batch}
        requests = {
            one.id: Request(self._path(one), one.id, what.body, what.event_time)
            for one in batch
            if isinstance(what := asked[one.id], Asked)
        }
        answers = self._answers(requests)
        undone = frozenset(requests.keys() - answers.keys())
        done = messages.done_so_far(batch, undone) if undone else list(batch)
        for one in done:
            self._deliver(one, asked[one.id], answers.get(one.id))
        if self.sink.flush(self.source.wait, self.stop):
            self.source.commit(done)

    def _answers(self, requests: dict[str, Request]) -> dict[str, tuple[Reply, Outcome]]:
        """Each request's reply and what it means; some may lack only when told to stop."""
        answers: dict[str, tuple[Reply, Outcome]] = {}
        waiting = list(requests)
        delay, most = PATIENCE
        while waiting:
            names = self._next(waiting, requests)
            trouble: Outcome | None = None
            for name, reply in zip(names, self.server.ask([requests[one] for one in names]), strict=True):
                outcome = outcomes.judge(reply, self.server.url)
                if outcome.verdict == "again":
                    trouble = trouble or outcome
                elif reply is not None:
                    answers[name] = reply, outcome
            left = [name for name in waiting if name not in answers]
            progress, waiting = len(waiting) - len(left), left
            if trouble is None:
                self._relieved()
                continue
            if self.stop.is_set():
                break
            self._troubled(trouble, progress, len(waiting))
            if progress:
                delay = PATIENCE[0]
            self.source.wait(delay if progress else max(delay, min(trouble.wait or 0.0, most)))
            delay = min(delay * 2, most)
        return answers

    def _next(self, waiting: Sequence[str], requests: dict[str, Request]) -> list[str]:
        """As many as may be under way at once; fewer after the server said that it has too much to do."""
        chosen: list[str] = []
        size = 0
        for name in waiting[: self._window]:
            size += len(requests[name].body)
            if chosen and size > PIPELINE_BYTES:
                break
            chosen.append(name)
        return chosen

    def _troubled(self, trouble: Outcome, progress: int, left: int) -> None:
        """Some or all were put off: as many as were answered is what the server can take at once."""
        self.counts.retries += 1
        self._window = max(1, min(progress, self._window - 1))
        if not self._waiting and not progress:
            self._waiting = True
            self.say(f"{trouble.sentence}; {left} messages wait, and are asked again until it answers")

    def _relieved(self) -> None:
        self._window = min(PIPELINE, self._window + max(1, self._window // 8))
        if self._waiting:
            self._waiting = False
            self.say("the model server answers again")

    def _deliver(self, message: Message, asked: Asked | str, answer: tuple[Reply, Outcome] | None) -> None:
        topics = self.topics
        if isinstance(asked, str) or answer is None:
            self._refuse(message, asked if isinstance(asked, str) else "", None)
            return
        reply, outcome = answer
        if outcome.verdict == "refused":
            self._refuse(message, outcome.sentence, reply.status)
        elif message.topic == topics.labels:
            self.counts.labels += 1
        else:
            self.counts.predictions += 1
            self.sink.send(
                messages.prediction(message, asked, reply.body, topic=topics.output, group=topics.group, now=self.now())
            )

    def _refuse(self, message: Message, sentence: str, status: int | None) -> None:
        self.counts.dead_letters += 1
        if self.counts.dead_letters == 1:
            self.say(f"{message.id} goes to {self.topics.dead_letter}: {sentence} (further ones are counted, not told)")
        letter = messages.dead_letter(message, sentence, status, topic=self.topics.dead_letter, group=self.topics.group)
        self.sink.send(letter)

    def _path(self, message: Message) -> str:
        return "/labels" if message.topic == self.topics.labels else "/predict"
