"""A promotion: a version of one target brought to the next, with what was known of it there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

BASE = "base"
"""What the project file says without any target: where people try things on their own machine."""


@dataclass(frozen=True)
class Origin:
    """Where a promoted version comes from. Its digest is the same everywhere; its number is each target's own."""

    target: str
    version: int
    digest: str  # of the packaged folder
    run: str
    entry: str
    params: Mapping[str, Any]
    key: str | None
    tree: str | None
    dataset_digest: str | None
    gate: str | None  # the verdict's sentence there
    executor: str
    task: str
    parity: Mapping[str, Any]
    metrics: Mapping[str, float]
    summary: Mapping[str, Any]
    trained_from: datetime
    trained_to: datetime

    def encode(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "trained_from": self.trained_from.isoformat(),
            "trained_to": self.trained_to.isoformat(),
        }

    @classmethod
    def decode(cls, kept: Mapping[str, Any]) -> Self:
        moments = {name: datetime.fromisoformat(kept[name]) for name in ("trained_from", "trained_to")}
        return cls(**{**kept, **moments})


def path(targets: tuple[str, ...]) -> tuple[str, ...]:
    """The way versions go: from the base to the first target, and on in the order of the file."""
    return (BASE, *(name for name in targets if name != BASE))


def following(targets: tuple[str, ...], current: str) -> str | None:
    """The target after `current`, or None at the end.

    >>> following(("dev", "prod"), "base"), following(("dev", "prod"), "prod")
    ('dev', None)
    """
    way = path(targets)
    place = way.index(current) + 1
    return way[place] if place < len(way) else None
