"""The batch pipe between the server and a version's child process: messages of [u32 length][msgpack] over a socket pair.

The child says Ready once, then answers each Work with Values or Refused of the same number. Numbers of float64 travel
as raw bytes in the machine's own order: both ends are on one machine.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

LENGTH = struct.Struct("=I")


class Ready(msgspec.Struct, tag="ready"):
    """The model is loaded."""


class Broken(msgspec.Struct, tag="broken"):
    """The model cannot be loaded."""

    error: str


class Work(msgspec.Struct, tag="work"):
    number: int
    rows: int
    columns: Mapping[str, Sequence[Any]]


class Values(msgspec.Struct, tag="values"):
    number: int
    exec_us: int
    data: bytes


class Refused(msgspec.Struct, tag="refused"):
    """The executor raised, or did not give one number per row."""

    number: int
    exec_us: int
    outcome: str  # failed | invalid_output
    error: str


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
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            end = LENGTH.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[LENGTH.size : end])
            del self._buffer[:end]
            yield _from_child.decode(payload)
