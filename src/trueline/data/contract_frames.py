"""The contract's row rules said in Polars, for whole frames; a property test holds them to `Contract.check_row`.

A rule becomes an expression that is true where a row breaks it. All of them are evaluated in one pass; the sentences are
then made by the row rules themselves, from the few values that broke one. What only a frame can tell is uniqueness.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from trueline.data.contract_io import cast
from trueline.domain import contracts
from trueline.domain.contracts import FLOAT32_MAX, FLOATS, INT64_MAX, NUMBERS, Column, Contract, Kind, Level
from trueline.errors import InvalidData

SCHEMA = {"row": pl.UInt32, "column": pl.String, "level": pl.String, "problem": pl.String}
AGAIN = "expected each value once, got one again"
TEXTS = (pl.String, pl.Categorical, pl.Enum)
NEVER, ALWAYS = pl.lit(value=False), pl.lit(value=True)


@dataclass(frozen=True)
class Enforced:
    """A frame in the contract's types, and how many rows leave what had been seen so far, per column."""

    frame: pl.DataFrame
    warnings: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """One way in which rows can break the contract; `broken` is true where they do."""

    column: str
    level: Level
    broken: pl.Expr
    problem: str | None = None  # None: the row rule says it, from the value


def violations(frame: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Every violation: row (from 0), column, level, problem; by row, then by the contract's order."""
    rules = list(_rules(frame, contract))
    masks = _evaluate(frame, rules)
    found = []
    for number, rule in enumerate(rules):
        rows = masks[str(number)].arg_true()
        problems = [rule.problem] * rows.len() if rule.problem else _problems(frame, contract, rule, rows)
        found.append(
            pl.DataFrame(
                {
                    "row": rows,
                    "column": [rule.column] * rows.len(),
                    "level": [str(rule.level)] * rows.len(),
                    "problem": problems,
                },
                schema=SCHEMA,
            )
        )
    return pl.concat(found).sort("row", maintain_order=True) if found else pl.DataFrame(schema=SCHEMA)


def enforce(frame: pl.DataFrame, contract: Contract) -> Enforced:
    """The frame in the contract's types; refuses it with one sentence when any row breaks an error-level rule."""
    rules = list(_rules(frame, contract))
    masks = _evaluate(frame, rules)
    warnings: dict[str, int] = {}
    for number, rule in enumerate(rules):
        broken = masks[str(number)]
        count = int(broken.sum())
        if count == 0:
            continue
        if rule.level is Level.error:
            raise InvalidData(_sentence(frame, contract, rule, broken))
        warnings[rule.column] = warnings.get(rule.column, 0) + count
    return Enforced(cast(frame, contract), warnings)


def refused(frame: pl.DataFrame, contract: Contract) -> tuple[pl.Series, dict[str, int]]:
    """Which rows break an error-level rule, and how many of the others leave what had been seen so far, per column."""
    rules = list(_rules(frame, contract))
    masks = _evaluate(frame, rules)
    broken = pl.repeat(value=False, n=frame.height, dtype=pl.Boolean, eager=True)
    doubted: dict[str, pl.Series] = {}
    for number, rule in enumerate(rules):
        mask = masks[str(number)]
        if rule.level is Level.error:
            broken = broken | mask
        else:
            doubted[rule.column] = mask
    counts = {name: int((mask & ~broken).sum()) for name, mask in doubted.items()}
    return broken, {name: count for name, count in counts.items() if count}


def _sentence(frame: pl.DataFrame, contract: Contract, rule: Rule, broken: pl.Series) -> str:
    if rule.column not in contract:
        return f"column '{rule.column}' is not in the contract, which forbids unknown columns; add it there or drop it"
    if rule.column not in frame.columns:
        return f"column '{rule.column}' is missing from the data; it has {', '.join(frame.columns)}"
    broken = _culprits(frame[rule.column], contract.column(rule.column), broken)
    count = int(broken.sum())
    first = broken.arg_true().head(1)
    problem = rule.problem or _problems(frame, contract, rule, first)[0]
    rows = "1 row" if count == 1 else f"{count} of {frame.height} rows"
    return (
        f"column '{rule.column}': {problem} in {rows}, first in row {first[0] + 1}; "
        "correct the source, or contract.yaml if such rows are right"
    )


def _culprits(values: pl.Series, column: Column, broken: pl.Series) -> pl.Series:
    """Where one word made text of a whole column of numbers, as in a CSV: the rows with such a word."""
    if column.kind not in NUMBERS or values.dtype not in TEXTS:
        return broken
    words = broken & values.is_not_null() & values.cast(pl.String).cast(pl.Float64, strict=False).is_null()
    return words if words.any() else broken


def _evaluate(frame: pl.DataFrame, rules: list[Rule]) -> pl.DataFrame:
    """One boolean column per rule, named by its number."""
    if not rules:
        return pl.DataFrame()
    everywhere = pl.repeat(value=False, n=frame.height, dtype=pl.Boolean).alias("nowhere")
    return frame.select(everywhere, *(rule.broken.fill_null(value=False).alias(str(n)) for n, rule in enumerate(rules)))


def _problems(frame: pl.DataFrame, contract: Contract, rule: Rule, rows: pl.Series) -> list[str | None]:
    column = contract.column(rule.column)
    check = contracts.compile_column(column) if rule.level is Level.error else contracts.compile_doubts(column)
    return [check(value) for value in frame[rule.column].gather(rows).to_list()]


def _rules(frame: pl.DataFrame, contract: Contract) -> Iterator[Rule]:
    for column in contract.columns:
        if column.name not in frame.columns:
            yield Rule(column.name, Level.error, ALWAYS, "is missing")
            continue
        saying = _Saying(column, frame[column.name])
        refused, doubted = saying.refused, saying.doubted
        if column.strict:
            refused, doubted = refused | (~saying.nothing & doubted), NEVER
        yield Rule(column.name, Level.error, refused)
        if not column.strict and saying.doubts:
            yield Rule(column.name, Level.warning, ~refused & doubted)
        if column.unique and not frame[column.name].dtype.is_nested():
            again = pl.col(column.name).is_not_null() & ~pl.col(column.name).is_first_distinct()
            yield Rule(column.name, Level.error if column.strict else Level.warning, again, AGAIN)
    for violation in contract.check_names(frame.columns):
        yield Rule(violation.column, violation.level, ALWAYS, violation.problem)


class _Saying:
    """One column's rules as expressions over the type it happens to have in a frame."""

    def __init__(self, column: Column, values: pl.Series) -> None:
        self._column, self._values, self._dtype = column, values, values.dtype
        self._it = pl.col(column.name)

    @cached_property
    def nothing(self) -> pl.Expr:
        """Where there is no value: null, and in a float column what is not finite."""
        missing = self._it.is_null()
        if self._column.kind in FLOATS and self._dtype.is_float():
            return missing | ~self._it.is_finite()
        return missing

    @cached_property
    def refused(self) -> pl.Expr:
        if self._column.nullable:
            return ~self.nothing & self._of_another_kind
        return self.nothing | self._of_another_kind

    @cached_property
    def _of_another_kind(self) -> pl.Expr:
        """Where a value, if there is one, cannot be of the column's kind."""
        dtype, it = self._dtype, self._it
        broken = NEVER if dtype == pl.Null else ALWAYS
        match self._column.kind:
            case Kind.integer if dtype.is_integer():
                broken = it > INT64_MAX if dtype in (pl.UInt64, pl.Int128) else NEVER
            case Kind.integer if dtype.is_float():
                wide = it.cast(pl.Float64)
                whole = it.is_finite() & (wide.floor() == wide)
                broken = ~whole | (wide < -(2.0**63)) | (wide >= 2.0**63)
            case Kind.float32 if dtype == pl.Float64:
                broken = it.abs() > FLOAT32_MAX
            case Kind.float32 | Kind.float64 if dtype.is_integer() or dtype.is_float():
                broken = NEVER
            case Kind.string if dtype in TEXTS:
                broken = NEVER
            case Kind.boolean if dtype == pl.Boolean:
                broken = NEVER
            case Kind.datetime if isinstance(dtype, pl.Datetime):
                broken = NEVER
            case Kind.datetime if dtype in TEXTS:
                broken = it.cast(pl.String).is_in(self._no_times)
        return broken

    @cached_property
    def _no_times(self) -> list[str]:
        """The texts that are no ISO 8601 time; asked of the row rule, once per distinct text."""
        check = contracts.compile_column(Column("", Kind.datetime))
        return [text for text in self._values.drop_nulls().unique() if check(text) is not None]

    @property
    def doubts(self) -> bool:
        column = self._column
        if column.kind is Kind.string:
            return column.categories is not None
        return column.kind in NUMBERS and not (column.minimum is None and column.maximum is None)

    @cached_property
    def doubted(self) -> pl.Expr:
        """Where a value leaves its range or categories."""
        column, dtype, it = self._column, self._dtype, self._it
        if not self.doubts:
            return NEVER
        if column.kind is Kind.string:
            if dtype not in TEXTS:
                return NEVER
            return ~it.cast(pl.String).is_in(list(column.categories or ()))
        if dtype.is_integer():
            outside = _outside_whole(column)
        elif dtype.is_float():
            outside = it.is_finite() & _outside(column)
        else:
            return NEVER
        return outside


def _outside(column: Column) -> pl.Expr:
    """Compared as float64, in which a bound that is a large whole number is first made the nearest one inside."""
    it, outside = pl.col(column.name).cast(pl.Float64), NEVER
    if column.minimum is not None:
        outside |= it < _float_inside(column.minimum, math.inf)
    if column.maximum is not None:
        outside |= it > _float_inside(column.maximum, -math.inf)
    return outside


def _outside_whole(column: Column) -> pl.Expr:
    """Compared as whole numbers, exactly."""
    it, outside = pl.col(column.name).cast(pl.Int128), NEVER
    if (low := column.minimum) is not None and low != -math.inf:
        outside |= it.is_not_null() if low == math.inf else it < _whole(math.ceil(low))
    if (high := column.maximum) is not None and high != math.inf:
        outside |= it.is_not_null() if high == -math.inf else it > _whole(math.floor(high))
    return outside


def _whole(bound: int) -> pl.Expr:
    return pl.lit(max(-(2**127), min(bound, 2**127 - 1)), dtype=pl.Int128)


def _float_inside(bound: float, towards: float) -> float:
    try:
        near = float(bound)
    except OverflowError:
        return math.inf if bound > 0 else -math.inf
    passed = near < bound if towards > 0 else near > bound
    return math.nextafter(near, towards) if passed else near
