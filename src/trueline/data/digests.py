"""Digests of what rows say, whatever files they lie in and whichever library reads them back.

Whole frames are digested column by column over their values' bytes. Rows that arrive one batch after another are
digested one by one, and the digests added up modulo 2^256: such a sum does not depend on order or batches, and rows can
be added and taken away. The sum tells rows apart by accident, not against somebody who crafts them (Bellare and
Micciancio, "A new paradigm for collision-free hashing", 1997, on why such sums want longer digests for that).
"""

from __future__ import annotations

import hashlib
import json

import polars as pl

NOTHING = "0" * 64
"""The sum over no rows."""

MODULUS = 2**256
SLICE = 65_536

TYPES = {
    pl.Int64: "integer",
    pl.Float32: "float32",
    pl.Float64: "float64",
    pl.String: "string",
    pl.Boolean: "boolean",
    pl.Datetime: "datetime",
}
"""Our names for the types, for a library's names change."""

_COMPACT = json.JSONEncoder(separators=(",", ":")).encode


def of_frame(frame: pl.DataFrame) -> str:
    """Names, types (those of a contract) and values, in the frame's order of columns and rows.

    >>> of_frame(pl.DataFrame({"a": [1, None]})) == of_frame(pl.DataFrame({"a": [1, 0]}))
    False
    """
    whole = hashlib.sha256()
    for column in frame.iter_columns():
        whole.update(json.dumps([column.name, TYPES[column.dtype.base_type()], column.len()]).encode())
        for part in column.to_frame().iter_slices(SLICE):
            _add_values(whole, part.to_series())
    return whole.hexdigest()


def of_rows(frame: pl.DataFrame, before: str = NOTHING) -> str:
    """The sum `before` with these rows added. A null says nothing: a row is the same with such a column or without.

    >>> rows = pl.DataFrame({"a": [1, 2]})
    >>> of_rows(rows) == of_rows(rows[1:], before=of_rows(rows[:1]))
    True
    """
    return f"{(int(before, 16) + _sum(frame)) % MODULUS:064x}"


def without_rows(frame: pl.DataFrame, before: str) -> str:
    """The sum `before` with these rows taken away."""
    return f"{(int(before, 16) - _sum(frame)) % MODULUS:064x}"


def of_texts(*texts: str) -> str:
    """One digest of several texts."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _sum(frame: pl.DataFrame) -> int:
    names = sorted(frame.columns)
    plain = frame.select(
        pl.col(name).to_physical() if frame[name].dtype.is_temporal() else pl.col(name) for name in names
    )
    total = 0
    for row in plain.iter_rows():
        said = {name: value for name, value in zip(names, row, strict=True) if value is not None}
        total += int.from_bytes(hashlib.sha256(_COMPACT(said).encode()).digest(), "big")
    return total


def _add_values(whole: hashlib._Hash, values: pl.Series) -> None:
    """Which are null, then the others' bytes; texts with their lengths, so that none runs into the next."""
    whole.update(values.is_null().cast(pl.UInt8).to_numpy().tobytes())
    known = values.drop_nulls()
    if known.dtype == pl.String:
        whole.update(known.str.len_bytes().cast(pl.UInt32).to_numpy().tobytes())
        whole.update("".join(known).encode())
    elif known.dtype == pl.Boolean:
        whole.update(known.cast(pl.UInt8).to_numpy().tobytes())
    else:
        whole.update(known.to_physical().to_numpy().tobytes())
