"""The contract at serving: the rules of `domain/contracts.py`, with a short cut for values that are plainly right.

A request has one row most of the time and tens of columns, so what counts is the cost of a good value. For each
column the short cut is one type comparison and one range or set test; whatever it does not let pass is judged by the
contract's own rule, which finds the words. A property test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import KeysView, Mapping, Sequence
from typing import Any

from trueline.domain.contracts import INT64_MAX, Column, Kind, compile_column, compile_doubts, missing
from trueline.errors import InvalidInput

_WHOLE_MAX = math.nextafter(2.0**63, 0)  # what is larger may be an integer that msgpack cannot hold
_BOUND = {Kind.integer: INT64_MAX, Kind.float32: _WHOLE_MAX, Kind.float64: _WHOLE_MAX}
_SCALARS = frozenset({str, int, float, bool, type(None)})

Columns = Mapping[str, list[Any]]


class Checks:
    """The checks of one version's inputs."""

    def __init__(self, inputs: Sequence[Column], allowed: frozenset[str] | None = None) -> None:
        """`allowed`: the only columns that a contract with `unknown_columns: forbid` lets pass."""
        self._allowed = allowed
        self._rules = {column.name: (compile_column(column), compile_doubts(column)) for column in inputs}
        self._numbers = [_plain_number(column) for column in inputs if column.kind in _BOUND]
        self._texts = [
            (column.name, frozenset(column.categories) if column.categories else None)
            for column in inputs
            if column.kind is Kind.string
        ]
        self._others = [column.name for column in inputs if column.kind in (Kind.boolean, Kind.datetime)]

    def check(self, columns: Columns, rows: int) -> list[str]:
        """Raise InvalidInput naming input and row, or return the columns that hold something not seen in training.

        An integer of more than 64 bits in a column of floats becomes a float, in place: JavaScript writes 1e20 so.
        """
        try:
            unsure = [*self._others, *self._unsure_numbers(columns), *self._unsure_texts(columns)]
            doubtful = [name for name in unsure if self._doubtful(name, columns[name])]
        except KeyError:
            raise InvalidInput(missing([name for name in self._rules if name not in columns])) from None
        if len(columns) > len(self._rules):
            _check_extras(columns, self._rules.keys(), self._allowed)
        if set(map(len, columns.values())) != {rows}:
            name, values = next((name, values) for name, values in columns.items() if len(values) != rows)
            raise InvalidInput(f"input '{name}': expected {rows} rows, got {len(values)}")
        return doubtful

    def _unsure_numbers(self, columns: Columns) -> list[str]:
        unsure: list[str] = []
        for name, plain, low, high in self._numbers:
            for value in columns[name]:
                if not ((type(value) is plain or type(value) is int) and low <= value <= high):
                    unsure.append(name)
                    break
        return unsure

    def _unsure_texts(self, columns: Columns) -> list[str]:
        unsure: list[str] = []
        for name, known in self._texts:
            for value in columns[name]:
                if type(value) is not str or (known is not None and value not in known):
                    unsure.append(name)
                    break
        return unsure

    def _doubtful(self, name: str, values: list[Any]) -> bool:
        """The contract's own words on a column."""
        refuse, doubt = self._rules[name]
        doubted = False
        for row, value in enumerate(values):
            problem = refuse(value)
            if problem is not None:
                raise InvalidInput(f"input '{name}': {problem} at row {row}")
            doubted = doubted or doubt(value) is not None
            if type(value) is int and not -INT64_MAX - 1 <= value <= INT64_MAX:
                values[row] = float(value)
        return doubted


def _plain_number(column: Column) -> tuple[str, type[Any], float, float]:
    bound = _BOUND[column.kind]
    low = -bound if column.minimum is None else max(-bound, column.minimum)
    high = bound if column.maximum is None else min(bound, column.maximum)
    return column.name, int if column.kind is Kind.integer else float, low, high


def _check_extras(columns: Columns, names: KeysView[str], allowed: frozenset[str] | None) -> None:
    """What the model does not read is journalled as it came, so it must be a plain value."""
    for name, values in columns.items():
        if name in names:
            continue
        if allowed is not None and name not in allowed:
            raise InvalidInput(f"input '{name}': is not in the contract, which forbids unknown columns; leave it out")
        for row, value in enumerate(values):
            if type(value) not in _SCALARS:
                raise InvalidInput(f"input '{name}': expected a plain value, got a list or an object at row {row}")
            if type(value) is int and not -INT64_MAX - 1 <= value <= INT64_MAX:
                raise InvalidInput(f"input '{name}': expected at most 64 bits, got a larger integer at row {row}")
