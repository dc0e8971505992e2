"""The route table: everything a serving process needs to know, as one value with an epoch.

Control decides it, every serving process acknowledges it, and the one with the highest epoch is in force. A table
with `hold` was set by a person on the server itself (`rollback --local`); control imports it and never overwrites it.
Every version of the table that did not answer a request scores it afterwards in shadow, so that losses can be paired.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any


class Arm(StrEnum):
    """The part a version plays for a request."""

    champion = "champion"
    canary = "canary"
    shadow = "shadow"
    pinned = "pinned"  # the caller named the version: journalled, never evidence


@dataclass(frozen=True)
class Route:
    version: int
    arm: Arm
    weight: float  # share of requests, 0 for shadow
    path: str  # the model's folder; control keeps it relative to the state folder, which every machine has its own of
    digest: str  # of its content, verified before loading


@dataclass(frozen=True)
class RouteTable:
    epoch: int
    model: str
    routes: tuple[Route, ...] = ()
    release: str | None = None  # the release whose arms these are; its id salts the split
    salt: str = ""
    stick_to: str | None = None
    hold: bool = False

    def __post_init__(self) -> None:
        routed = [route for route in self.routes if route.weight > 0]
        if routed and abs(sum(route.weight for route in routed) - 1) > 1e-9:
            raise ValueError("the weights of a route table must sum to 1")
        if len({route.version for route in self.routes}) != len(self.routes):
            raise ValueError("a version appears once in a route table")

    @property
    def champion(self) -> Route | None:
        return next((route for route in self.routes if route.arm is Arm.champion), None)

    @property
    def answering(self) -> RouteTable:
        """The table without the versions that only score in shadow."""
        return replace(self, routes=tuple(route for route in self.routes if route.weight > 0))

    def completes(self, other: RouteTable) -> bool:
        """Whether this is the same decision, with shadows that the other still lacked the models of."""
        return self.answering == other.answering and set(other.routes) < set(self.routes)

    def only(self, version: int, *, epoch: int, hold: bool) -> RouteTable:
        """The same table with every request sent to one version (rollback on the server itself)."""
        kept = tuple(
            replace(r, arm=Arm.champion, weight=1.0) if r.version == version else replace(r, arm=Arm.shadow, weight=0.0)
            for r in self.routes
        )
        return replace(self, epoch=epoch, routes=kept, hold=hold, release=None)


def encode(table: RouteTable) -> dict[str, Any]:
    return asdict(table)


def decode(fields: Mapping[str, Any]) -> RouteTable:
    """The inverse of `encode`; raises ValueError, TypeError or KeyError for anything else."""
    routes = tuple(Route(**{**route, "arm": Arm(route["arm"])}) for route in fields["routes"])
    return RouteTable(**{**fields, "routes": routes})


def dumps(table: RouteTable) -> str:
    return json.dumps(encode(table))


def loads(text: str) -> RouteTable:
    return decode(json.loads(text))
