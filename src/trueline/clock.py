"""Where `now` comes from.

Two times never mix. *Event time* (`now`) is what policies, windows and durations are about; under replay it is
posted by the driver. *Processing time* (`wall`) is the machine's own: leases, back-off and latencies use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    def now(self) -> datetime:
        """The time policies live in (aware, UTC)."""

    def wall(self) -> datetime:
        """The machine's time (aware, UTC)."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def wall(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class ManualClock:
    """A clock turned by hand, for tests: both times stand still until `advance`."""

    current: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.current

    def wall(self) -> datetime:
        return self.current

    def advance(self, by: timedelta) -> None:
        self.current += by


def to_us(moment: datetime) -> int:
    """Microseconds since the epoch.

    >>> to_us(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """The inverse of `to_us`."""
    return EPOCH + timedelta(microseconds=microseconds)
