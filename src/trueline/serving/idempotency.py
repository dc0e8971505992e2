"""`Idempotency-Key`: the same request again is the same request, whoever answers it.

Its id is made of its key and body, so every process gives it the same prediction ids, and readers of the table have it once
(`domain/predictions.py`); its key chooses the arm, so the same version answers as long as the route table stands. A key that comes
with another body is another request.

Besides, this process remembers the last answers to requests that had a key, as long as they fit: then the same request is neither
scored nor journalled a second time. It forgets when it ends, and other processes of the port do not know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trueline.domain.predictions import keyed_request_id
from trueline.serving.dataplane import Answer, Call
from trueline.serving.protocol import Exchange
from trueline.serving.responses import Header

HEADER = b"idempotency-key"
REPLAYED: Header = (b"idempotency-replayed", b"true")
MOST = 20_000
MOST_BYTES = 32_000_000
_OVERHEAD = 400  # of one entry, besides key and answer


LONGEST_UNIT = 256


def name(call: Call, model: str, key: bytes, body: bytes) -> None:
    """Have a call be known by its key: its id, and what chooses its arm unless the release sticks to a column."""
    call.request_id = keyed_request_id(model, key, body)
    call.client_id = key.decode("latin-1")[:LONGEST_UNIT]


@dataclass(frozen=True, slots=True)
class Kept:
    key: bytes
    asked: int  # the hash of the body: of this process only, as the memory is
    body: bytes
    request_id: bytes

    @property
    def size(self) -> int:
        return len(self.key) + len(self.body) + _OVERHEAD


Waiting = tuple[Exchange, tuple[Header, ...]]
"""Who asked meanwhile, and what is to be echoed to him."""


class Answered:
    """Oldest first; what is too much goes from there."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._kept: dict[bytes, Kept] = {}
        self._under_way: dict[tuple[bytes, int], list[Waiting]] = {}
        self._most, self._most_bytes = most, most_bytes
        self._bytes = 0

    def find(self, key: bytes, body: bytes) -> Kept | None:
        """The answer this request had."""
        kept = self._kept.get(key)
        return kept if kept is not None and kept.asked == hash(body) else None

    def under_way(self, key: bytes, body: bytes) -> list[Waiting] | None:
        """Who waits for the answer to this request, while it has been asked and not been answered."""
        return self._under_way.get((key, hash(body)))

    def begin(self, key: bytes, body: bytes, waiting: list[Waiting]) -> None:
        self._under_way[key, hash(body)] = waiting

    def end(self, key: bytes, body: bytes) -> None:
        self._under_way.pop((key, hash(body)), None)

    def keeping(self, key: bytes, body: bytes, form: Callable[[Answer], bytes]) -> Callable[[Answer], bytes]:
        """The form of an answer, kept as it is given; one that is not in the journal may be asked for again."""
        asked = hash(body)

        def formed(answer: Answer) -> bytes:
            data = form(answer)
            if answer.recorded:
                self._keep(Kept(key, asked, data, answer.request_id.encode()))
            return data

        return formed

    def _keep(self, kept: Kept) -> None:
        self._drop(kept.key)
        self._kept[kept.key] = kept
        self._bytes += kept.size
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        old = self._kept.pop(key, None)
        if old is not None:
            self._bytes -= old.size
