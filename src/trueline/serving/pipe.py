"""The batch pipe between the server and a version's child process: messages of [u32 length][msgpack] over a socket pair.

The child says Ready once, then answers each Work with Values or Refused of the same number. Numbers of float64 travel
as raw bytes in the machine's own order: both ends are on one machine. Rows travel as they came, encoded from the very
tuples the request was decoded into; making arrays of them is work for the child's core, not for the event loop's.

A model runs in the child and may write anything anywhere, so what comes from there is believed only as far as it is
checked: too long, not decodable or not asked for is `Garbled`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec

LENGTH = struct.Struct("=I")
LONGEST = 64 * 1024 * 1024  # bytes of an answer: eight million rows


# What is recorded of an answer, and so has to fit there whatever the model makes of it.
Microseconds = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Sentence = Annotated[str, msgspec.Meta(max_length=1000)]


class Garbled(ValueError):
    """What came from the child is no answer."""


class Ready(msgspec.Struct, tag="ready", omit_defaults=True):
    """The model is loaded. `tuples`: Work may come as rows."""

    tuples: bool = False


class Broken(msgspec.Struct, tag="broken"):
    """The model cannot be loaded."""

    error: Sentence


class Work(msgspec.Struct, tag="work", omit_defaults=True):
    """Rows to score: as columns, or as tuples in the order of the signature's inputs."""

    number: int
    rows: int
    columns: Mapping[str, Sequence[Any]] | None = None
    tuples: Sequence[Sequence[Any]] | None = None


class Values(msgspec.Struct, tag="values"):
    number: int
    exec_us: Microseconds
    data: bytes


class Refused(msgspec.Struct, tag="refused"):
    """The executor raised, or did not give one number per row."""

    number: int
    exec_us: Microseconds
    outcome: str  # failed | invalid_output
    error: Sentence


FromChild = Ready | Broken | Values | Refused

_encoder = msgspec.msgpack.Encoder()
_from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)
_work: msgspec.msgpack.Decoder[Work] = msgspec.msgpack.Decoder(Work)


def frame(message: FromChild | Work) -> bytes:
    payload = _encoder.encode(message)
    return LENGTH.pack(len(payload)) + payload


def work(payload: bytes) -> Work:
    return _work.decode(payload)


class Inbox:
    """Bytes from the child as they come, taken apart into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[FromChild]:
        """The messages that are complete by now; Garbled as soon as it is clear that there will be none."""
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            if length > LONGEST:
                raise Garbled(f"it announced an answer of {length} bytes")
            end = LENGTH.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[LENGTH.size : end])
            del self._buffer[:end]
            try:
                yield _from_child.decode(payload)
            except (msgspec.DecodeError, RecursionError) as problem:
                raise Garbled(f"it sent what is no answer: {problem}") from None
