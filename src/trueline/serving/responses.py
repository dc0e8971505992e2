"""HTTP answers as bytes."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

import msgspec

from trueline.errors import NotAuthenticated, Overloaded, TruelineError, Unavailable, UnsupportedEncoding

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Header = tuple[bytes, bytes]

encode = msgspec.json.Encoder().encode

_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_date = b""


_begun = b""  # how most answers begin


def tick() -> None:
    """Renew the Date header; called about once a second."""
    global _date, _begun  # noqa: PLW0603  one clock, read by every answer
    _date = f"date: {formatdate(usegmt=True)}\r\n".encode()
    _begun = b"%b%bcontent-type: %b\r\ncontent-length: " % (_STATUS[200], _date, JSON)


tick()


def response(
    status: int,
    body: bytes,
    kind: bytes = JSON,
    headers: tuple[Header, ...] = (),
    *,
    close: bool = False,
    keep_alive: bool = False,
    head: bool = False,
) -> bytes:
    """The whole answer; `keep_alive` says so to a client of HTTP/1.0, `head` leaves the body out."""
    more = b""
    for header in headers:
        more += b"%b: %b\r\n" % header
    if close:
        more += b"connection: close\r\n"
    elif keep_alive:
        more += b"connection: keep-alive\r\n"
    if status == 200 and kind is JSON and not head:
        return b"%b%d\r\n%b\r\n%b" % (_begun, len(body), more, body)
    return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (
        _STATUS[status], _date, kind, len(body), more, b"" if head else body,
    )  # fmt: skip


def problem(sentence: str) -> bytes:
    """The body of every refusal, in the form of Open Inference."""
    return encode({"error": sentence})


def headers_for(error: TruelineError) -> tuple[Header, ...]:
    if isinstance(error, Overloaded | Unavailable):
        return ((b"retry-after", b"1"),)
    if isinstance(error, NotAuthenticated):
        return ((b"www-authenticate", b"Bearer"),)
    if isinstance(error, UnsupportedEncoding):
        return ((b"accept-encoding", b"gzip, deflate"),)
    return ()
