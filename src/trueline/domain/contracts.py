"""The data contract: what a column may hold, checked by the same rules at ingest, in training and at serving.

The rules here are the rows' truth: one value of one column, standard library only. `data/contract_frames.py` says the
same in Polars for whole frames, and a property test holds the two together row by row.

A rule has a level. Kind and nullability are *errors*: such a row is refused, because a model cannot be given it. Ranges,
categories and uniqueness were read off data that had been seen so far, so leaving them is a *warning*: counted, shown,
and not refused, unless the column is declared `strict`.

Kinds: an integer is any integral number of 64 bits (3.0 is one, true is not). A float column is float32 unless the
contract says float64; it takes integers, and NaN and the infinities count as null there. A datetime is an aware or
naive (then UTC) datetime, or its ISO 8601 text, which is how JSON carries it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeVar

from trueline.errors import InvalidData

Word = TypeVar("Word", bound=StrEnum)
FLOAT32_MAX = 3.4028234663852886e38
INT64_MAX = 2**63 - 1
_MOST_NAMED = 10

Check = Callable[[Any], str | None]
"""Takes a value, gives None or what is wrong with it: 'expected integer, got string'."""


class Kind(StrEnum):
    integer = "integer"
    float32 = "float32"
    float64 = "float64"
    string = "string"
    boolean = "boolean"
    datetime = "datetime"


FLOATS = frozenset({Kind.float32, Kind.float64})
NUMBERS = FLOATS | {Kind.integer}


class Role(StrEnum):
    feature = "feature"
    target = "target"
    time = "time"
    entity = "entity"


SERVED = frozenset({Role.feature})
"""The roles a request must bring; the others may come along and are not looked at."""


class UnknownColumns(StrEnum):
    """What to do with a column the contract does not name."""

    warn = "warn"
    forbid = "forbid"
    ignore = "ignore"


class Level(StrEnum):
    error = "error"
    warning = "warning"


class Violation(NamedTuple):
    """One rule broken by one value; `str` of it is the sentence a caller reads."""

    column: str
    level: Level
    problem: str

    def __str__(self) -> str:
        return f"column '{self.column}': {self.problem}"


@dataclass(frozen=True)
class Column:
    name: str
    kind: Kind
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = None
    unique: bool = False
    personal: bool = False
    role: Role = Role.feature
    strict: bool = False  # leaving range, categories or uniqueness is an error, not a warning


@dataclass(frozen=True)
class Contract:
    columns: tuple[Column, ...]
    unknown_columns: str = UnknownColumns.warn  # warn | forbid | ignore

    def __post_init__(self) -> None:
        if len(self._by_name) != len(self.columns):
            raise InvalidData("the contract names a column twice; each column appears once")

    def __reduce__(self) -> tuple[type[Contract], tuple[tuple[Column, ...], str]]:
        return Contract, (self.columns, self.unknown_columns)  # without the compiled checks, which cannot be pickled

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def column(self, name: str) -> Column:
        found = self._by_name.get(name)
        if found is None:
            raise InvalidData(f"the contract has no column '{name}'; it has {', '.join(self.names)}")
        return found

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    @property
    def features(self) -> tuple[Column, ...]:
        return self.of(Role.feature)

    @property
    def target(self) -> Column:
        return self._one(Role.target)

    @property
    def time(self) -> Column:
        return self._one(Role.time)

    @property
    def entity(self) -> Column:
        return self._one(Role.entity)

    def of(self, *roles: Role) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role in roles)

    def check_row(self, row: Mapping[str, Any], roles: Iterable[Role] = Role) -> tuple[Violation, ...]:
        """Everything wrong with one row, in the contract's column order, then what it does not know.

        Columns of roles that are not asked for may be there or not, and are not checked.
        """
        asked = frozenset(roles)
        found: list[Violation] = []
        for column, refuse, doubt in self._checks:
            if column.role not in asked:
                continue
            if column.name not in row:
                found.append(Violation(column.name, Level.error, "is missing"))
                continue
            value = row[column.name]
            problem = refuse(value)
            if problem is not None:
                found.append(Violation(column.name, Level.error, problem))
                continue
            problem = doubt(value)
            if problem is not None:
                found.append(Violation(column.name, Level.warning, problem))
        return (*found, *self.check_names(row))

    def check_names(self, names: Iterable[str]) -> tuple[Violation, ...]:
        """One violation for each name the contract does not know, as its `unknown_columns` says."""
        if self.unknown_columns == UnknownColumns.ignore:
            return ()
        level = Level.error if self.unknown_columns == UnknownColumns.forbid else Level.warning
        return tuple(Violation(name, level, "is not in the contract") for name in names if name not in self._by_name)

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @cached_property
    def _checks(self) -> tuple[tuple[Column, Check, Check], ...]:
        return tuple((column, compile_column(column), compile_doubts(column)) for column in self.columns)

    def _one(self, role: Role) -> Column:
        found = self.of(role)
        if len(found) != 1:
            raise InvalidData(f"the contract has {len(found)} columns of the role '{role}'; it needs exactly one")
        return found[0]


@lru_cache(maxsize=4096)
def compile_column(column: Column) -> Check:
    """What refuses a value of this column: kind and nullability, and for a strict column all the rest.

    >>> check = compile_column(Column("age", Kind.integer))
    >>> check(31), check("31"), check(True), check(3.5), check(None)
    (None, 'expected integer, got string', 'expected integer, got boolean', 'expected integer, got a fraction', \
'expected integer, got null')
    """
    of_kind = _KINDS[column.kind]
    doubt = _doubts(column) if column.strict else None
    nullable, floating, expected = column.nullable, column.kind in FLOATS, str(column.kind)

    def check(value: Any) -> str | None:
        if value is None or (floating and isinstance(value, float) and not math.isfinite(value)):
            return None if nullable else f"expected {expected}, got {kind_of(value)}"
        problem = of_kind(value)
        if problem is not None:
            return f"expected {expected}, got {problem}"
        return doubt(value) if doubt is not None else None

    return check


@lru_cache(maxsize=4096)
def compile_doubts(column: Column) -> Check:
    """What is only counted: a value outside the range or the categories seen so far.

    To be asked of values that `compile_column` does not refuse.

    >>> compile_doubts(Column("age", Kind.integer, maximum=99))(100)
    'expected at most 99, got 100'
    """
    return _never if column.strict else _doubts(column)


def missing(names: Sequence[str], where: str = "") -> str:
    """What is said of columns that a request or a row lacks: all of their names, or the first ten.

    >>> missing(["age"]), missing(["age", "plan"], " at row 3")
    ("input 'age' is missing", "inputs 'age', 'plan' are missing at row 3")
    """
    shown = ", ".join(f"'{name}'" for name in names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"input {shown} is missing{where}" if len(names) == 1 else f"inputs {shown}{more} are missing{where}"


def _doubts(column: Column) -> Check:
    """Range and categories, also for strict columns."""
    if column.categories is not None and column.kind is Kind.string:
        return _category_check(column, frozenset(column.categories))
    if column.kind in NUMBERS and (column.minimum is not None or column.maximum is not None):
        return _range_check(column)
    return _never


def _category_check(column: Column, known: frozenset[str]) -> Check:
    def check(value: Any) -> str | None:
        if value is None or value in known:
            return None
        return f"expected one of {len(known)} known categories, got {shown(column, value)}"

    return check


def _range_check(column: Column) -> Check:
    low = -math.inf if column.minimum is None else column.minimum
    high = math.inf if column.maximum is None else column.maximum

    def check(value: Any) -> str | None:
        if value is None or low <= value <= high or not math.isfinite(value):
            return None
        bound = f"at least {_number(low)}" if value < low else f"at most {_number(high)}"
        return f"expected {bound}, got {shown(column, value)}"

    return check


def _never(value: Any) -> None:  # noqa: ARG001 a check takes a value
    return None


def _integer(value: Any) -> str | None:
    if type(value) is int or (isinstance(value, int) and not isinstance(value, bool)):
        return None if -INT64_MAX - 1 <= value <= INT64_MAX else "more than 64 bits"
    if isinstance(value, float):
        if not value.is_integer():
            return kind_of(value) if not math.isfinite(value) else "a fraction"
        return None if -(2.0**63) <= value < 2.0**63 else "more than 64 bits"
    return kind_of(value)


def _float(largest: float) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return None if -largest <= value <= largest else "a number too large for it"
        return kind_of(value)

    return check


def _string(value: Any) -> str | None:
    return None if isinstance(value, str) else kind_of(value)


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else kind_of(value)


def _datetime(value: Any) -> str | None:
    if isinstance(value, datetime):
        return None
    if not isinstance(value, str):
        return kind_of(value)
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return "text that is not an ISO 8601 time"
    return None


_KINDS: Mapping[Kind, Check] = {
    Kind.integer: _integer,
    Kind.float32: _float(FLOAT32_MAX),
    Kind.float64: _float(math.nextafter(math.inf, 0)),
    Kind.string: _string,
    Kind.boolean: _boolean,
    Kind.datetime: _datetime,
}


_WORDS: tuple[tuple[type, str], ...] = (  # bool is an int too, so it comes first
    (type(None), "null"),
    (bool, "boolean"),
    (int, "integer"),
    (str, "string"),
    (list, "list"),
    (tuple, "list"),
    (dict, "object"),
)


def kind_of(value: Any) -> str:
    """What a value is, in JSON's words."""
    if isinstance(value, float):
        return "number" if math.isfinite(value) else "NaN" if math.isnan(value) else "infinity"
    return next((word for kind, word in _WORDS if isinstance(value, kind)), type(value).__name__)


def shown(column: Column, value: Any) -> str:
    """A value as a message may show it; never that of a personal column."""
    if column.personal:
        return "another value (personal, not shown)"
    if not isinstance(value, str):
        return _number(value)
    return f"'{value}'" if len(value) <= 60 else f"'{value[:57]}...'"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


_COLUMN_DEFAULTS = {one.name: one.default for one in fields(Column) if one.name not in ("name", "kind")}


def column_to_dict(column: Column) -> dict[str, Any]:
    """A column as plain JSON values; what is as by default is left out.

    >>> column_to_dict(Column("age", Kind.integer, nullable=True))
    {'name': 'age', 'kind': 'integer', 'nullable': True}
    """
    plain: dict[str, Any] = {"name": column.name, "kind": str(column.kind)}
    for name, default in _COLUMN_DEFAULTS.items():
        value = getattr(column, name)
        if value != default:
            plain[name] = list(value) if isinstance(value, tuple) else str(value) if name == "role" else value
    return plain


def column_from_dict(plain: Mapping[str, Any]) -> Column:
    """The inverse of `column_to_dict`; one sentence when it is none."""
    if not isinstance(plain, Mapping) or not isinstance(plain.get("name"), str):
        raise InvalidData("a contract column needs a 'name' that is text")
    name = plain["name"]
    unknown = sorted(set(map(str, plain)) - {"name", "kind", *_COLUMN_DEFAULTS})
    if unknown:
        raise InvalidData(
            f"contract column '{name}' has the unknown key '{unknown[0]}'; "
            f"known are name, kind, {', '.join(_COLUMN_DEFAULTS)}"
        )
    values = {key: _column_value(name, key, value) for key, value in plain.items() if key not in ("name", "kind")}
    column = Column(name=name, kind=_word(name, "kind", Kind, plain.get("kind")), **values)
    _agree(column)
    return column


def _agree(column: Column) -> None:
    """Refuse a rule that could never apply, rather than seem to check it."""
    low, high = column.minimum, column.maximum
    if (low is not None or high is not None) and column.kind not in NUMBERS:
        raise InvalidData(f"contract column '{column.name}': kind {column.kind} has no minimum or maximum; remove them")
    if column.categories is not None and column.kind is not Kind.string:
        raise InvalidData(f"contract column '{column.name}': kind {column.kind} has no categories; remove them")
    if low is not None and high is not None and low > high:
        raise InvalidData(
            f"contract column '{column.name}': the minimum {_number(low)} is above the maximum {_number(high)}"
        )


def _column_value(name: str, key: str, value: Any) -> Any:
    match key:
        case "role":
            return _word(name, key, Role, value)
        case "categories":
            if value is not None and not (
                isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
            ):
                raise InvalidData(f"contract column '{name}': categories must be a list of texts")
            return None if value is None else tuple(value)
        case "minimum" | "maximum":
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value != value):  # noqa: PLR0124 NaN
                raise InvalidData(f"contract column '{name}': {key} must be a number")
            return value
        case _:
            if not isinstance(value, bool):
                raise InvalidData(f"contract column '{name}': {key} must be true or false")
            return value


def _word(name: str, key: str, words: type[Word], value: Any) -> Word:
    try:
        return words(value)
    except ValueError:
        raise InvalidData(f"contract column '{name}': {key} is '{value}'; expected one of {', '.join(words)}") from None


def to_dict(contract: Contract) -> dict[str, Any]:
    """A contract as plain JSON values."""
    return {
        "unknown_columns": str(contract.unknown_columns),
        "columns": [column_to_dict(column) for column in contract.columns],
    }


def from_dict(plain: Mapping[str, Any]) -> Contract:
    """The inverse of `to_dict`; one sentence when it is none."""
    if not isinstance(plain, Mapping) or not isinstance(plain.get("columns"), list):
        raise InvalidData("a contract needs a list 'columns'")
    policy = plain.get("unknown_columns", UnknownColumns.warn)
    if policy not in list(UnknownColumns):
        raise InvalidData(f"contract: unknown_columns is '{policy}'; expected one of {', '.join(UnknownColumns)}")
    return Contract(tuple(column_from_dict(one) for one in plain["columns"]), UnknownColumns(policy))
