"""From a path to what it means: exact paths are one look-up, and so is every other one that has been asked for before."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

MOST_REMEMBERED = 512
LONGEST_REMEMBERED = 256

Methods = Mapping[str, Callable[..., None]]


class Paths:
    """`exact` is for who must be fast: paths without placeholders, and those seen lately; `find` knows the others.

    `convert` makes the arguments of a handler out of the texts that stand for `{name}`; what it raises goes to the caller.
    """

    def __init__(self, table: Mapping[str, Methods], convert: Callable[[Mapping[str, str]], dict[str, Any]]) -> None:
        self._fixed = {path: methods for path, methods in table.items() if "{" not in path}
        self._patterns = [(_pattern(path), methods) for path, methods in table.items() if "{" in path]
        self._convert = convert
        self.exact: dict[str, Methods] = dict(self._fixed)

    def find(self, path: str) -> Methods | None:
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                given = self._convert(match.groupdict())
                found = {method: partial(handler, **given) for method, handler in methods.items()}
                self._remember(path, found)
                return found
        return None

    def _remember(self, path: str, methods: Methods) -> None:
        """Callers may make up names without end: then everything is forgotten, and learned again."""
        if len(path) > LONGEST_REMEMBERED:
            return
        if len(self.exact) >= len(self._fixed) + MOST_REMEMBERED:
            for remembered in self.exact.keys() - self._fixed.keys():
                del self.exact[remembered]
        self.exact[path] = methods


def _pattern(template: str) -> re.Pattern[str]:
    fixed_and_names = re.split(r"\{(\w+)\}", template)  # by turns
    return re.compile(
        "".join(f"(?P<{part}>[^/]+)" if place % 2 else re.escape(part) for place, part in enumerate(fixed_and_names))
    )
