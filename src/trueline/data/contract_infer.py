"""What a contract can be read off rows: kinds, nulls, ranges, categories, and the roles the project file gives."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import cast

import polars as pl

from trueline.domain.contracts import FLOAT32_MAX, Column, Contract, Kind, Role, UnknownColumns
from trueline.errors import InvalidData

FEW = 50
"""Up to so many distinct texts are categories; more is free text."""

RESERVED = ("_origin", "_prediction_id")
EXACT_IN_FLOAT32 = 2**24
VISIBLE = 1e-4
"""A float32 rounding error above this share of the column's spread loses something a model could see."""


def infer(
    frame: pl.DataFrame,
    *,
    target: str,
    time: str | None = None,
    entity: str | None = None,
    personal: Iterable[str] = (),
    unknown_columns: str = UnknownColumns.warn,
) -> Contract:
    """The contract these rows satisfy."""
    roles = _roles(frame, target=target, time=time, entity=entity)
    private = frozenset(personal)
    for name in private:
        _require(frame, name, "named in contract.personal")
    for name in frame.columns:
        if name in RESERVED:
            raise InvalidData(f"the data has a column '{name}', a name trueline uses itself; rename it in the source")
    columns = (_column(frame[name], roles.get(name, Role.feature), personal=name in private) for name in frame.columns)
    return Contract(tuple(columns), UnknownColumns(unknown_columns))


def _roles(frame: pl.DataFrame, *, target: str, time: str | None, entity: str | None) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for name, role in ((target, Role.target), (time, Role.time), (entity, Role.entity)):
        if name is None:
            continue
        _require(frame, name, f"the {role} named in trueline.yaml")
        if name in roles:
            raise InvalidData(f"column '{name}' is named as both {roles[name]} and {role}; each needs its own column")
        roles[name] = role
    if time is not None and not isinstance(frame[time].dtype, pl.Datetime):
        shown = frame[time].drop_nulls().head(1).to_list()
        example = f" (such as {shown[0]!r})" if shown else ""
        raise InvalidData(
            f"the time column '{time}' holds {frame[time].dtype}{example}; "
            "it needs datetimes or ISO 8601 text such as 2026-01-31T08:00:00Z"
        )
    return roles


def _require(frame: pl.DataFrame, name: str, what: str) -> None:
    if name in frame.columns:
        return
    near = difflib.get_close_matches(name, frame.columns, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    raise InvalidData(f"the data has no column '{name}' ({what}){hint} it has {', '.join(frame.columns)}")


def _column(values: pl.Series, role: Role, *, personal: bool) -> Column:
    kind = _kind(values)
    if values.dtype.is_float():
        values = values.set(~values.is_finite(), None)
    known = values.drop_nulls()
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] | None = None
    if not personal and role is not Role.entity and not known.is_empty():
        if kind in (Kind.integer, Kind.float32, Kind.float64):
            low, high = _range(known, kind)
        elif kind is Kind.string and known.n_unique() <= min(FEW, known.len() - 1):
            categories = tuple(sorted(known.cast(pl.String).unique()))
    return Column(
        name=values.name,
        kind=kind,
        nullable=role is Role.target or known.len() < values.len(),  # a target may still be waiting for its label
        minimum=low,
        maximum=high,
        categories=categories,
        unique=role is Role.entity and known.n_unique() == known.len(),
        personal=personal,
        role=role,
    )


def _kind(values: pl.Series) -> Kind:
    match values.dtype:
        case dtype if dtype.is_integer():
            return Kind.integer
        case dtype if dtype.is_float():
            return Kind.float64 if dtype == pl.Float64 and needs_float64(values) else Kind.float32
        case pl.Boolean:
            return Kind.boolean
        case pl.String | pl.Categorical | pl.Enum | pl.Null:
            return Kind.string
        case pl.Datetime:
            return Kind.datetime
        case dtype:
            raise InvalidData(
                f"column '{values.name}' holds {dtype}, which a contract cannot describe; "
                "make it numbers, text, booleans or datetimes in the source"
            )


def needs_float64(values: pl.Series) -> bool:
    """Whether float32 would lose something: large whole numbers, or differences small beside the values.

    >>> needs_float64(pl.Series([0.1, 0.2, 0.7])), needs_float64(pl.Series([1.7e9 + 1, 1.7e9 + 2]))
    (False, True)
    """
    known = values.filter(values.is_finite())
    if known.is_empty():
        return False
    largest = known.abs().max()
    if not isinstance(largest, float) or largest > FLOAT32_MAX:
        return True
    error = (known.cast(pl.Float32).cast(pl.Float64) - known).abs()
    if (((known % 1) == 0) & (error > 0)).any() and largest > EXACT_IN_FLOAT32:
        return True
    spread, worst = known.std(), error.max()
    if not isinstance(spread, float) or not isinstance(worst, float) or spread == 0:
        return False
    return worst > VISIBLE * spread


def _range(known: pl.Series, kind: Kind) -> tuple[float, float]:
    """The smallest and largest value seen; of a float32 both before and after rounding, and in six digits, outwards."""
    low, high = known.min(), known.max()
    if kind is Kind.integer:
        return cast("int", low), cast("int", high)
    smallest, largest = cast("float", low), cast("float", high)
    if kind is Kind.float64:
        return smallest, largest
    (single_low, single_high) = pl.Series([smallest, largest], dtype=pl.Float32).cast(pl.Float64)
    return _six_digits(min(smallest, single_low), ROUND_FLOOR), _six_digits(max(largest, single_high), ROUND_CEILING)


def _six_digits(bound: float, rounding: str) -> float:
    return float(Context(prec=6, rounding=rounding).create_decimal(repr(bound)))
