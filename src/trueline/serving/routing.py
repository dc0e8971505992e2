"""Which version answers: a salted hash of the unit, so that one unit stays with one arm as long as the split lasts.

The hash is uniform on 64 bits and compared with exact cumulative weights. Canaries come first in the unit interval,
so a unit that is on the canary stays there while its share grows. The salt is the release's: the next release deals
anew, and nobody is always first.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from trueline.domain.routes import Arm, Route, RouteTable


class Choice(NamedTuple):
    version: int
    arm: str
    weight: float


class Split:
    """The weighted routes of one table."""

    def __init__(self, table: RouteTable) -> None:
        routed = sorted((one for one in table.routes if one.weight > 0), key=lambda one: one.arm is not Arm.canary)
        self._salt = f"{table.salt}|".encode()
        self._steps = _steps(routed)
        self._only = Choice(routed[0].version, routed[0].arm.value, 1.0) if len(routed) == 1 else None

    def choose(self, unit: str) -> Choice | None:
        """The arm of this unit; None when the table routes nothing."""
        if self._only is not None:
            return self._only
        place = position(self._salt, unit)
        for upper, choice in self._steps:
            if place < upper:
                return choice
        return self._steps[-1][1] if self._steps else None


def position(salt: bytes, unit: str) -> float:
    """Where in [0, 1) a unit falls.

    >>> position(b"release-1|", "customer-7") == position(b"release-1|", "customer-7")
    True
    """
    digest = blake2b(salt + unit.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


def _steps(routed: list[Route]) -> list[tuple[float, Choice]]:
    steps: list[tuple[float, Choice]] = []
    upper = 0.0
    for route in routed:
        upper += route.weight
        steps.append((upper, Choice(route.version, route.arm.value, route.weight)))
    return steps
