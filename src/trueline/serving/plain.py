"""Rows that are plainly right, decoded and judged in one pass of msgspec.

Most requests are one or a few JSON objects with just the model's columns, of the right types, inside the ranges and
categories seen in training. For those a `msgspec.Struct` is made from the columns: decoding with it checks names, types,
ranges and categories in C. Whatever it does not let pass (a missing or further column, a doubt, a mistake) is decoded
again the general way, where `checks.py` and the contract's own rules find the words. A property test holds the two
together: what is plain here has no violation there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import astuple

from trueline.domain.contracts import FLOAT32_MAX, INT64_MAX, Column, Kind

_FLOAT64_MAX = 1.7976931348623157e308
_UNNAMEABLE = re.compile(r'["\\\x00-\x1f]')  # what a field of msgspec cannot have in its name
_MOST_CATEGORIES = 10_000  # a Literal of more takes long to make

Row = msgspec.Struct
Tuples = list[tuple[Any, ...]]
"""Rows as values in the order of a signature's inputs."""


class Plain:
    """The plain rows of one list of columns; `of` gives the same object for equal lists."""

    def __init__(self, inputs: Sequence[Column]) -> None:
        self.names = tuple(column.name for column in inputs)
        self._places = {name: place for place, name in enumerate(self.names)}
        row = msgspec.defstruct(
            "Row",
            [(f"c{place}", _type(column)) for place, column in enumerate(inputs)],
            rename={f"c{place}": column.name for place, column in enumerate(inputs)},
            forbid_unknown_fields=True,
            gc=False,
        )
        several = msgspec.defstruct(
            "Instances",
            [("instances", Annotated[list[row], msgspec.Meta(min_length=1)])],  # type: ignore[valid-type]
            forbid_unknown_fields=True,
            gc=False,
        )
        self._row = row
        self._one = msgspec.json.Decoder(row).decode
        self._several: Callable[[bytes], Any] = msgspec.json.Decoder(several).decode

    def decode(self, body: bytes) -> list[Row] | None:
        """The rows of a body of `POST /predict`, or None when it has to be looked at closely."""
        try:
            if body.startswith(b'{"instances"'):
                rows: list[Row] = self._several(body).instances
                return rows
            return [self._one(body)]
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None

    def of_values(self, rows: Sequence[Sequence[Any]]) -> list[Row] | None:
        """The rows of values in the order of the names; None as in `decode`."""
        names = self.names
        try:
            return [msgspec.convert(dict(zip(names, row, strict=True)), self._row) for row in rows]
        except (msgspec.ValidationError, ValueError):
            return None

    def columns(self, rows: Sequence[Row]) -> dict[str, list[Any]]:
        return {
            name: list(values) for name, values in zip(self.names, zip(*map(astuple, rows), strict=True), strict=True)
        }

    def value(self, row: Row, name: str) -> Any:
        """One column of a row; None when it has no such column."""
        place = self._places.get(name)
        return None if place is None else astuple(row)[place]


@lru_cache(maxsize=64)
def of(inputs: tuple[Column, ...]) -> Plain | None:
    """None when rows of these columns always need a closer look."""
    if not inputs or any(_special(column) for column in inputs):
        return None
    return Plain(inputs)


def _special(column: Column) -> bool:
    return (
        column.kind is Kind.datetime
        or column.name == "instances"
        or _UNNAMEABLE.search(column.name) is not None
        or (column.categories is not None and not 0 < len(column.categories) <= _MOST_CATEGORIES)
    )


def _type(column: Column) -> Any:
    plain: Any
    match column.kind:
        case Kind.integer:
            plain = Annotated[int, _between(column, -INT64_MAX, INT64_MAX, whole=True)]
        case Kind.float32:
            plain = Annotated[float, _between(column, -FLOAT32_MAX, FLOAT32_MAX, whole=False)]
        case Kind.float64:
            plain = Annotated[float, _between(column, -_FLOAT64_MAX, _FLOAT64_MAX, whole=False)]
        case Kind.boolean:
            plain = bool
        case _:
            plain = Literal[tuple(column.categories)] if column.categories else str
    return plain | None if column.nullable else plain


def _between(column: Column, low: float, high: float, *, whole: bool) -> msgspec.Meta:
    low = low if column.minimum is None else max(low, column.minimum)
    high = high if column.maximum is None else min(high, column.maximum)
    if whole:
        return msgspec.Meta(ge=math.ceil(low), le=math.floor(high))
    return msgspec.Meta(ge=low, le=high)
