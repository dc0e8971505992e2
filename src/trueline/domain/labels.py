"""Labels: what may be told as the truth about a prediction, as its target is declared, and the number it is kept as.

A label says what the target turned out to be, so it is a value of the target's column. The column's kind is a rule, and where it
is strict so are its range and its categories; else these are what was seen so far, and only counted, as for features.

Between two classes a label is one of the two, and is kept as 0 or 1. Of two texts the later in order is 1, as scikit-learn
orders classes; the text itself may be told, or the number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

from trueline.domain.contracts import NUMBERS, Column, Kind, compile_column, kind_of, shown
from trueline.errors import InvalidInput

Told = bool | int | float | str
Read = Callable[[Told], float]
"""The number of a label; raises InvalidInput with what was expected and what was got."""


@lru_cache(maxsize=64)
def compile_label(target: Column, *, classes: bool) -> Read:
    """How labels of this target are read; `classes`: the model tells two classes apart.

    >>> read = compile_label(Column("late", Kind.string, categories=("no", "yes")), classes=True)
    >>> read("yes"), read("no"), read(1)
    (1.0, 0.0, 1.0)
    """
    if target.kind is Kind.string:
        return _one_of_texts(target)
    if target.kind is Kind.boolean:
        return _one_of(target, "true or false", _NUMBERS)  # which 1 and 0 are, to JSON's own libraries too
    if classes:
        return _one_of(target, "0 or 1", _NUMBERS)
    return _value_of(target)


def _value_of(target: Column) -> Read:
    """A number of the column; of a kind that is none, any."""
    number = target if target.kind in NUMBERS else Column(target.name, Kind.float64)
    refuse = compile_column(replace(number, nullable=False))

    def read(value: Told) -> float:
        problem = refuse(value)
        if problem is not None:
            raise InvalidInput(problem)
        return float(value)

    return read


def _one_of(target: Column, expected: str, known: Mapping[Told, float]) -> Read:
    worded = any(isinstance(one, str) for one in known)

    def read(value: Told) -> float:
        try:
            return known[value]
        except KeyError:
            got = kind_of(value) if isinstance(value, str) and not worded else shown(target, value)[:80]
            raise InvalidInput(f"expected {expected}, got {got}") from None

    return read


def _one_of_texts(target: Column) -> Read:
    names = sorted(target.categories or ())
    if len(names) != 2:
        return _one_of(target, "0 or 1 (the contract does not have its two classes as categories)", _NUMBERS)
    words = "one of its two classes" if target.personal else " or ".join(shown(target, name) for name in names)
    return _one_of(target, f"{words} (or 0 or 1)", {names[0]: 0.0, names[1]: 1.0, **_NUMBERS})


_NUMBERS: Mapping[Told, float] = {0: 0.0, 1: 1.0}
