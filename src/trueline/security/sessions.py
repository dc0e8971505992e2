"""How a browser gets in: a ticket in a link becomes a session in a cookie. Both read only, neither kept anywhere.

A ticket or session is its expiry and a code that only the holder of the API's token can make (HMAC-SHA-256, keys
derived from the token). So a session outlives a restart of the server, and a new token ends them all. See
docs/decisions/0014.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

TICKET = timedelta(minutes=15)
"""A link is used once it is printed; it should be worth nothing in a scroll-back or a browser's history."""

SESSION = timedelta(days=7)

_DIGITS = 12


@dataclass(frozen=True)
class Sessions:
    """Makes and checks tickets and sessions for one token."""

    token: str
    wall: Callable[[], float] = time.time

    @property
    def cookie(self) -> str:
        """The cookie's name: cookies know no ports, and two servers on one machine must not log each other out."""
        return f"trueline-{self._code('name')[:8]}"

    def ticket(self) -> str:
        """What a link carries."""
        return self._issue("ticket", TICKET)

    def admits(self, ticket: str) -> bool:
        """Whether a ticket is genuine and still good."""
        return self._valid("ticket", ticket)

    def session(self) -> str:
        """What the cookie carries."""
        return self._issue("session", SESSION)

    def holds(self, session: str) -> bool:
        """Whether a session is genuine and still good."""
        return self._valid("session", session)

    def _issue(self, what: str, length: timedelta) -> str:
        ends = int(self.wall() + length.total_seconds())
        return f"{ends}.{self._code(f'{what} {ends}')}"

    def _valid(self, what: str, shown: str) -> bool:
        ends, _, code = shown.partition(".")
        if not (ends.isascii() and ends.isdigit() and len(ends) <= _DIGITS):
            return False
        genuine = hmac.compare_digest(self._code(f"{what} {int(ends)}").encode(), code.encode(errors="replace"))
        return genuine and self.wall() < int(ends)

    def _code(self, message: str) -> str:
        return hmac.new(self.token.encode(), f"trueline page {message}".encode(), hashlib.sha256).hexdigest()
