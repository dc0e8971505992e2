"""Tensors as raw bytes: the binary data extension of Open Inference v2, as Triton speaks it.

A body then is JSON of `Inference-Header-Content-Length` bytes, and after it the data of each input that says
`binary_data_size`, in their order; answers alike. Numbers are little-endian and row-major, BOOL is one byte, an element of
BYTES is its length in four bytes and then itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueline.errors import InvalidInput

LENGTH = b"inference-header-content-length"
SIZE = "binary_data_size"

Raw = bytes | memoryview

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    **{
        f"{sign}INT{8 * size}": np.dtype(f"<{kind}{size}")
        for sign, kind in (("", "i"), ("U", "u"))
        for size in (1, 2, 4, 8)
    },
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
TEXT = "BYTES"
KNOWN = f"{', '.join(DTYPES)} and {TEXT}"


def split(body: bytes, stated: bytes) -> tuple[bytes, memoryview]:
    """The JSON of a body, and what comes after it."""
    if not (stated.isdigit() and len(stated) <= 12):
        raise InvalidInput(
            f"Inference-Header-Content-Length: expected the size of the JSON in bytes, got {stated.decode('latin-1')[:20]!r}"
        )
    length = int(stated)
    if length > len(body):
        raise InvalidInput(f"Inference-Header-Content-Length is {length}, but the body has only {len(body)} bytes")
    return body[:length], memoryview(body)[length:]


def shares(rest: memoryview, sizes: Sequence[tuple[str, Any]]) -> list[memoryview | None]:
    """Each input's part of the bytes; `sizes` has name and `binary_data_size`, None for data that is in the JSON."""
    parts: list[memoryview | None] = []
    start = 0
    for name, size in sizes:
        if size is None:
            parts.append(None)
            continue
        if type(size) is not int or size < 0:
            raise InvalidInput(f"input '{name}': {SIZE} must be a number of bytes")
        if start + size > len(rest):
            raise InvalidInput(f"input '{name}': {SIZE} is {size}, but only {len(rest) - start} bytes are left for it")
        parts.append(rest[start : start + size])
        start += size
    if start < len(rest):
        raise InvalidInput(f"{len(rest) - start} bytes follow the last input that has a {SIZE}")
    return parts


def array(name: str, datatype: str, shape: Sequence[int], data: Raw) -> NDArray[Any] | list[str]:
    """The flat values of a tensor: an array over the same bytes, or texts."""
    if datatype == TEXT:
        return _texts(name, prod(shape), data)
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise InvalidInput(f"input '{name}': unknown datatype '{datatype}'; known are {KNOWN}")
    if len(data) != prod(shape) * dtype.itemsize:
        needed = prod(shape) * dtype.itemsize
        raise InvalidInput(f"input '{name}': shape {list(shape)} of {datatype} needs {needed} bytes, got {len(data)}")
    if datatype == "BOOL":
        return np.frombuffer(data, np.uint8).astype(np.bool_)
    return np.frombuffer(data, dtype)


def unpack(name: str, datatype: str, shape: Sequence[int], data: Raw) -> list[Any]:
    """The same as plain Python values."""
    values = array(name, datatype, shape, data)
    return values if isinstance(values, list) else values.tolist()


def pack(datatype: str, values: Sequence[Any]) -> bytes:
    """The inverse of `unpack`."""
    if datatype == TEXT:
        texts = [value if isinstance(value, bytes) else str(value).encode() for value in values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.asarray(values, DTYPES[datatype]).tobytes()


def _texts(name: str, count: int, data: Raw) -> list[str]:
    texts: list[str] = []
    start, end = 0, len(data)
    while start < end:
        row, begin = len(texts), start + 4
        start = begin + int.from_bytes(data[start:begin], "little")
        if start > end or begin > end:
            raise InvalidInput(
                f"input '{name}': the bytes end within row {row}; each element is 4 bytes of length, then it"
            )
        try:
            texts.append(str(data[begin:start], "utf-8"))
        except UnicodeDecodeError:
            raise InvalidInput(f"input '{name}': expected text in UTF-8, got other bytes at row {row}") from None
    if len(texts) != count:
        raise InvalidInput(f"input '{name}': the shape needs {count} elements of BYTES, got {len(texts)}")
    return texts
