"""Tokens of people and programs, by name: what they do is recorded as theirs, and approvals count.

The file holds SHA-256 digests: a token is shown once, when it is made, and cannot be read back. A token is 256 random
bits, so a plain digest is enough: there is no password to guess. The server reads the file again when it changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueline.errors import InvalidInput, NotFound, Unavailable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Person:
    name: str
    permissions: frozenset[str] | None = None  # None: all of them


@dataclass(frozen=True)
class People:
    """The named tokens of one state folder."""

    path: Path

    def issue(self, name: str, permissions: frozenset[str] | None = None) -> str:
        """A new token for `name`; the one before, if there was one, is worth nothing from now on."""
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"{name!r} is not a name: use letters, digits, dots, dashes, underscores, @")
        token = f"tl_{os.urandom(32).hex()}"
        with self._changed() as kept:
            kept[name] = {
                "sha256": _digest(token),
                "permissions": None if permissions is None else sorted(permissions),
            }
        return token

    def revoke(self, name: str) -> None:
        with self._changed() as kept:
            if kept.pop(name, None) is None:
                raise NotFound(f"nobody called {name} has a token here; `trueline token` lists who has")

    def known(self) -> list[Person]:
        return [_person(name, entry) for name, entry in sorted(self._read().items())]

    def whose(self, token: str) -> Person | None:
        """Who was given this token."""
        shown = _digest(token)
        for name, entry in self._read().items():
            if entry["sha256"] == shown:  # a digest of what was shown: timing tells nothing about tokens
                return _person(name, entry)
        return None

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as problem:
            raise Unavailable(
                f"the tokens in {self.path} cannot be read ({problem}); mend or remove the file"
            ) from None
        return found

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """The file's content, to be changed; written by rename, one writer at a time."""
        try:
            with self.path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                kept = self._read()
                yield kept
                draft = self.path.with_name(f".{self.path.name}-{os.getpid()}")
                handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(handle, "w") as file:
                    file.write(json.dumps(kept, indent=1, sort_keys=True) + "\n")
                draft.rename(self.path)
        except OSError as problem:
            raise Unavailable(f"{self.path} cannot be written ({problem.strerror}); make its folder writable") from None


def _person(name: str, entry: Mapping[str, Any]) -> Person:
    allowed = entry["permissions"]
    return Person(name, None if allowed is None else frozenset(allowed))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
