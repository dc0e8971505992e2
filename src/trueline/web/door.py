"""What a browser must show to be let in: whose name it asked for, from where, and its session.

A page of another site may send requests here; what it must not do is act as the person who is logged in. Sessions are
for reading alone, are sent by the browser only from our own pages (SameSite=Strict), and count only under a name that
nobody else can own (an address, localhost, or the one this server was told to listen on) and for a request that says it
came from these pages or from the person.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import Morsel, SimpleCookie
from urllib.parse import urlsplit

from trueline.security.sessions import SESSION, Sessions

OWN = frozenset({None, "same-origin", "none"})


@dataclass(frozen=True)
class Door:
    sessions: Sessions
    host: str  # the name or address listened on

    def knows(self, host: str | None) -> bool:
        """Whether a Host header names this server and not what somebody's DNS made point here.

        >>> door = Door(Sessions("t" * 16), "model-box")
        >>> [door.knows(name) for name in ("127.0.0.1:7077", "[::1]:7077", "LocalHost", "model-box:7077", "evil.example")]
        [True, True, True, True, False]
        """
        try:
            name = urlsplit(f"//{host or ''}").hostname or ""
        except ValueError:
            return False
        if name in {"localhost", self.host.lower()} or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def session(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> str | None:
        """The session that a request may be answered by, if it shows one."""
        if not self.knows(headers.get("host")):
            return None
        navigates = headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") not in OWN and not navigates:
            return None
        return cookies.get(self.sessions.cookie)

    def cookie(self) -> str:
        """The Set-Cookie header of a new session."""
        jar: SimpleCookie = SimpleCookie()
        jar[self.sessions.cookie] = self.sessions.session()
        made: Morsel[str] = jar[self.sessions.cookie]
        made["path"], made["httponly"], made["samesite"] = "/", True, "Strict"
        made["max-age"] = int(SESSION.total_seconds())
        return made.OutputString()
