"""Compressed bodies: `Content-Encoding: gzip` or `deflate`, which Triton's clients can send."""

from __future__ import annotations

import zlib

from trueline.errors import InvalidInput, TooLarge, UnsupportedEncoding

_ANY_HEADER = 32 + zlib.MAX_WBITS  # zlib's or gzip's


def decoded(body: bytes, encoding: bytes, most: int) -> bytes:
    """The body as it was before; refused when it grows to `most` bytes or beyond, however little came."""
    named = encoding.decode("latin-1").strip().lower()
    if named in ("", "identity"):
        return body
    if named not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedEncoding(f"Content-Encoding: expected gzip, deflate or none, got {named[:60]}")
    unpacking = zlib.decompressobj(_ANY_HEADER)
    try:
        plain = unpacking.decompress(body, most)
    except zlib.error as problem:
        raise InvalidInput(f"the body is not {named}: {problem}") from None
    if len(plain) >= most:
        raise TooLarge(f"the body must have less than {most} bytes when it is unpacked; send fewer rows at once")
    if not unpacking.eof or unpacking.unused_data:
        raise InvalidInput(
            f"the body is not {named}: it {'ends too early' if not unpacking.eof else 'goes on after its end'}"
        )
    return plain
