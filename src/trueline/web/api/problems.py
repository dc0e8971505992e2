"""Errors on the wire, both ways: RFC 9457 `application/problem+json`.

`type` names the class of `trueline.errors`, so that a client raises the very error the server met.
"""

from __future__ import annotations

import re

import msgspec

from trueline import errors
from trueline.errors import TruelineError

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:trueline:problem:"


class Problem(msgspec.Struct, kw_only=True):
    """What went wrong, in a sentence a person can act on."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


KINDS: dict[str, type[TruelineError]] = {
    PREFIX + _kebab(name): kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, TruelineError)
}


def of(error: TruelineError) -> Problem:
    """The problem that tells of an error.

    >>> of(errors.NotFound("there is no run r9")).type
    'urn:trueline:problem:not-found'
    """
    kind = _kebab(type(error).__name__)
    return Problem(type=PREFIX + kind, title=kind.replace("-", " "), status=error.status, detail=str(error))


def as_error(problem: Problem) -> TruelineError:
    """The inverse of `of`; a problem of an unknown type becomes the error whose status it has."""
    kind = KINDS.get(problem.type)
    if kind is None:
        by_status = (known for known in KINDS.values() if known.status == problem.status)
        kind = next(by_status, TruelineError)
    return kind(problem.detail)
