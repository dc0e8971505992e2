"""State machines as total tables.

A machine is a mapping state → event → state. Every state has a row; a terminal state's row is empty. `next` is the
only way to learn a following state, and an event the row does not name changes nothing: it raises `Conflict` with a
sentence of what would have been possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from trueline.errors import Conflict

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True)
class Machine(Generic[S, E]):
    """The transitions of one noun."""

    noun: str
    initial: S
    table: Mapping[S, Mapping[E, S]]

    def next(self, state: S, event: E, *, which: str = "") -> S:
        """The state that `event` leads to from `state`, or `Conflict`."""
        row = self.table[state]
        if event in row:
            return row[event]
        possible = " or ".join(sorted(row)) or "nothing: that state is final"
        name = which if which.startswith(f"{self.noun}-") else f"{self.noun} {which}".strip()  # "run-7" says its noun
        raise Conflict(f"{name} is {state}: it cannot {event}; possible now: {possible}")

    @property
    def terminal(self) -> frozenset[S]:
        return frozenset(state for state, row in self.table.items() if not row)
