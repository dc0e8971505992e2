"""The replayed time: one row that the driver posts and every process reads."""

from __future__ import annotations

from datetime import UTC, datetime

from trueline.clock import SystemClock, from_us, to_us
from trueline.errors import InvalidInput
from trueline.store import meta
from trueline.store.engine import Store, Tx

KEY = "replay_now"


def set_replayed(tx: Tx, now: datetime) -> None:
    """Post the next time; it never goes back."""
    current = get_replayed(tx)
    if current is not None and now < current:
        raise InvalidInput(f"replayed time only goes forward: it is {current.isoformat()}, asked was {now.isoformat()}")
    meta.put(tx, KEY, str(to_us(now)))


def get_replayed(tx: Tx) -> datetime | None:
    found = meta.get(tx, KEY)
    return None if found is None else from_us(int(found))


class ReplayClock(SystemClock):
    """Event time as the driver posted it; the machine's time as it is.

    `refresh` reads the row; between refreshes the time stands still, so one pass of a loop sees one time.
    """

    def __init__(self) -> None:
        self._now = datetime(1970, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def refresh(self, store: Store) -> datetime:
        with store.read() as tx:
            self._now = get_replayed(tx) or self._now
        return self._now
