"""Bearer tokens: who may do what. One token file per state folder, made by `up`, readable by its owner only."""

from __future__ import annotations

import getpass
import hmac
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trueline.errors import NotAuthenticated, Unavailable
from trueline.security.people import People
from trueline.security.sessions import Sessions

VARIABLE = "TRUELINE_TOKEN"
_PREFIX = "Bearer "
_SHORTEST = 16


@dataclass(frozen=True)
class Principal:
    """Who makes a request. `permissions` None means all of them."""

    name: str
    permissions: frozenset[str] | None = None

    def may(self, permission: str) -> bool:
        return self.permissions is None or permission in self.permissions


PAGE = Principal("page", frozenset({"read"}))
"""Whoever looks at a page: a session changes nothing, so there is nothing to forge."""


class Guard(Protocol):
    """Whoever lets requests in."""

    def identify(self, authorization: str | None, session: str | None = None) -> Principal:
        """Who stands behind an Authorization header, or else a page's session; `NotAuthenticated` for nobody."""


@dataclass(frozen=True)
class TokenGuard:
    """Lets in whoever shows one of the tokens; `tokens` maps token to principal. A page's session reads.

    `people` have tokens in their own names, which may come and go while the server runs.
    """

    tokens: Mapping[str, Principal]
    sessions: Sessions | None = None
    people: People | None = None

    def identify(self, authorization: str | None, session: str | None = None) -> Principal:
        if authorization is None and session is not None and self.sessions is not None and self.sessions.holds(session):
            return PAGE
        if authorization is None:
            raise NotAuthenticated(
                "no token: send `Authorization: Bearer <token>`; the token file is in .trueline/token"
            )
        shown = authorization.removeprefix(_PREFIX)
        if shown == authorization:
            raise NotAuthenticated("the Authorization header must read `Bearer <token>`")
        found: Principal | None = None
        for token, principal in self.tokens.items():  # every one is compared: time tells nothing
            if hmac.compare_digest(token.encode(), shown.encode(errors="replace")):
                found = principal
        if found is None and self.people is not None and (person := self.people.whose(shown)) is not None:
            found = Principal(person.name, person.permissions)
        if found is None:
            raise NotAuthenticated("this token is not known here; use the one in the state folder's token file")
        return found


@dataclass(frozen=True)
class OwnerGuard:
    """For calls inside one process: whoever can open the state folder is its owner."""

    def identify(self, authorization: str | None, session: str | None = None) -> Principal:  # noqa: ARG002 part of the port
        try:
            return Principal(getpass.getuser())
        except (KeyError, OSError):  # a container's user without a name
            return Principal("local")


def guard(token: str, *, name: str = "local", people: People | None = None) -> TokenGuard:
    """The guard of a server with one token, which may do everything, and tokens of people."""
    return TokenGuard({checked(token): Principal(name)}, Sessions(token), people)


def checked(token: str, *, source: str = "a token", mend: str = "") -> str:
    """A token long enough not to be guessed and fit for a header; `source` says where it stands, `mend` what to do."""
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise NotAuthenticated(f"{source} needs at least {_SHORTEST} printable characters without spaces{mend}")
    return token


def read(path: Path) -> str | None:
    """The token in force: the environment's, else the file's, else None."""
    given = os.environ.get(VARIABLE)
    if given:
        return checked(given.strip(), source=f"the token in {VARIABLE}", mend="; correct it, or unset it")
    try:
        mend = f"; remove that file to have a new one made, or set {VARIABLE}"
        return checked(path.read_text().strip(), source=f"the token in {path}", mend=mend)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not text"
        raise Unavailable(f"the token file {path} cannot be read ({reason}); set {VARIABLE} instead") from problem


def ensure(path: Path) -> str:
    """The token in force, made on first use (file mode 0600); two starting at once agree on one."""
    found = read(path)
    if found is not None:
        return found
    token = f"tl_{os.urandom(32).hex()}"  # what `secrets` would give, without importing it at every start
    draft = path.with_name(f".{path.name}-{os.urandom(4).hex()}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(token + "\n")
        with suppress(FileExistsError):  # somebody was first: theirs counts
            os.link(draft, path)
        draft.unlink()
    except OSError as problem:
        raise Unavailable(
            f"the token file {path} cannot be written ({problem.strerror}); make its folder writable or set {VARIABLE}"
        ) from problem
    return read(path) or token
