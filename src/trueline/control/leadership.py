"""Which of several processes has a role in a project: runs its controllers (`control`), or feeds its tracking store.

The leader's lease counts on as long as it lives. Another process takes over when the count has stood still for
`PATIENCE_SECONDS` on its own monotonic clock: times of two machines are never compared, and none that can jump is read.
It need not wait for a leader that has let go, or that was a process of this machine and is gone. Every change of leader
raises the fence, and each write of a controller is refused when the fence is not its own any more: a leader that was
only slow changes nothing after it was replaced.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from trueline.errors import Conflict, Unavailable
from trueline.store import holders, leases
from trueline.store.engine import Store, Tx
from trueline.store.leases import Lease

BEAT_SECONDS = 2.0
PATIENCE_SECONDS = 8.0


class Leadership:
    """One process's part in one role."""

    def __init__(
        self,
        store: Store,
        project: str,
        *,
        role: str = "control",
        me: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._project = project
        self._role = role
        self._name = f"{role}/{project}"
        self._me = me or holders.me()
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._fence: int | None = None
        self._beaten = 0.0
        self._seen: Lease | None = None
        self._seen_at = 0.0

    @property
    def held(self) -> bool:
        """Whether this process leads, as far as it knows."""
        return self._fence is not None

    def hold(self) -> bool:
        """Keep the lead, or take it when nobody alive has it; whether this process leads."""
        with self._lock:
            return self._take() if self._fence is None else self._keep(self._fence)

    def keep(self, stopping: threading.Event) -> None:
        """Count on while a long round goes on; for a thread of its own."""
        while not stopping.wait(BEAT_SECONDS):
            with self._lock, suppress(Unavailable, Conflict):  # the next beat is in time too
                if self._fence is not None:
                    self._keep(self._fence)

    def check(self, tx: Tx) -> None:
        """Refuse a write of a process that does not lead (any more)."""
        fence, found = self._fence, leases.look(tx, self._name)
        if fence is None or found is None or found.fence != fence:
            raise Conflict(f"another {self._role} process leads now; this attempt changes nothing")

    def release(self) -> None:
        """Let the next process lead at once."""
        with self._lock:
            fence, self._fence = self._fence, None
            if fence is not None:
                with suppress(Unavailable), self._store.begin() as tx:  # else it finds us gone
                    leases.let_go(tx, self._name, fence)

    def _keep(self, fence: int) -> bool:
        now = self._monotonic()
        if now - self._beaten < BEAT_SECONDS:
            return True
        with self._store.begin() as tx:
            if not leases.beat(tx, self._name, fence):
                self._fence = None
        self._beaten = now
        return self._fence is not None

    def _take(self) -> bool:
        with self._store.read() as tx:
            found = leases.look(tx, self._name)
        now = self._monotonic()
        if found is not None and found.owner is not None and not holders.gone(found.owner):
            if found != self._seen:
                self._seen, self._seen_at = found, now
            if now - self._seen_at < PATIENCE_SECONDS:
                return False
        with self._store.begin() as tx:
            fence = leases.take(tx, self._name, self._me, found)
            if fence is not None and found is not None and found.owner is not None:
                reason = f"the {self._role} process {found.owner} is gone or silent; {self._me} goes on in its place"
                tx.record(f"{self._role}.takeover", self._name, project=self._project, actor=self._role, reason=reason)
        self._fence, self._beaten = fence, now
        return fence is not None
