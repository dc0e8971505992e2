"""Numbers of the project file as people write them: shares, ratios, durations, and how often."""

from __future__ import annotations

import re
from datetime import timedelta

from trueline.projectfile.kinds import Kind, typed
from trueline.projectfile.nodes import Node

SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
LONGEST = 100 * 366 * 86400
CADENCES = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
    "monthly": timedelta(days=30),
}
OFF = ("off", "never", "false")


def number(low: float | None = None, high: float | None = None) -> Kind:
    expects = "a number" if low is None else f"a number between {low:g} and {high:g}"

    def read(node: Node) -> float:
        try:
            found = float(typed(node, expects))
        except ValueError:
            node.wrong(expects)
        if not (low if low is not None else -1e300) <= found <= (high if high is not None else 1e300):
            node.wrong(expects)
        return found

    bounds = {"minimum": low, "maximum": high}
    return Kind(
        expects, read, {"type": "number"} | {name: at for name, at in bounds.items() if at is not None}, _number
    )


def count(low: int, high: int) -> Kind:
    expects = f"a whole number between {low} and {high}"

    def read(node: Node) -> int:
        found = typed(node, expects)
        if not re.fullmatch("[0-9]{1,9}", found) or not low <= int(found) <= high:
            node.wrong(expects)
        return int(found)

    return Kind(expects, read, {"type": "integer", "minimum": low, "maximum": high})


def count_or(word: str, low: int, high: int) -> Kind:
    """A whole number, or a word that leaves the number to the machine (None)."""
    whole = count(low, high)
    expects = f"{word}, or {whole.expects}"

    def read(node: Node) -> int | None:
        found = typed(node, expects)
        if found == word:
            return None
        if not re.fullmatch("[0-9]{1,9}", found):
            node.wrong(expects)
        value: int = whole.read(node)
        return value

    return Kind(expects, read, {"anyOf": [{"const": word}, whole.schema]}, none=word)


def _number(value: float) -> str:
    return f"{value:.12g}"


def _share(node: Node) -> float:
    found = typed(node, "a share, as 5% or 0.05")
    try:
        value = float(f"{found[:-1]}e-2" if found.endswith("%") else found)  # 5.95% is 0.0595 to the last bit
    except ValueError:
        node.wrong("a share, as 5% or 0.05")
    if not 0 < value <= 1:
        node.wrong("a share above 0 and up to 100%, as 5% or 0.05")
    return value


SHARE = Kind(
    "a share, as 5% or 0.05",
    _share,
    {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            {"type": "string", "pattern": r"^(?!0+(\.0+)?%)(100|[0-9]{1,2}(\.[0-9]{1,12})?)%$"},
        ]
    },
    lambda value: f"{_number(value * 100)}%",
)


def _ratio(node: Node) -> float:
    try:
        value = float(typed(node, "a ratio above 1, as 2x").removesuffix("x"))
    except ValueError:
        node.wrong("a ratio above 1, as 2x")
    if not 1 < value <= 1000:
        node.wrong("a ratio above 1, as 2x")
    return value


RATIO = Kind(
    "a ratio above 1, as 2x",
    _ratio,
    {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 1, "maximum": 1000},
            {"type": "string", "pattern": r"^(1000|(?!1(\.0+)?x)([1-9]|[1-9][0-9]{1,2})(\.[0-9]{1,12})?)x$"},
        ]
    },
    lambda value: f"{_number(value)}x",
)

_FRACTION = r"(\.[0-9]{1,6})?"


def _span(node: Node) -> timedelta:
    return _seconds(node, typed(node, SPAN.expects), SPAN.expects)


def _seconds(node: Node, text: str, expects: str) -> timedelta:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text)
    if found is None or float(found[1]) * SPANS[found[2]] > LONGEST:
        node.wrong(expects)
    return timedelta(seconds=float(found[1]) * SPANS[found[2]])


def written_span(value: timedelta) -> str:
    """The shortest writing of a duration.

    >>> written_span(timedelta(days=7)), written_span(timedelta(hours=36)), written_span(timedelta(0))
    ('7d', '36h', '0s')
    """
    seconds = value.total_seconds()
    unit = next((unit for unit in "dhm" if seconds and seconds % SPANS[unit] == 0), "s")
    return f"{_number(seconds / SPANS[unit])}{unit}"


_DIGITS = {"s": 9, "m": 7, "h": 5, "d": 4, "w": 3}
SPAN = Kind(
    "a duration, as 30m, 6h, 7d or 4w",
    _span,
    {
        "type": "string",
        "pattern": "^(" + "|".join(f"[0-9]{{1,{most}}}{_FRACTION}\\s*{unit}" for unit, most in _DIGITS.items()) + ")$",
    },
    written_span,
)


def _cadence(node: Node) -> timedelta | None:
    expects = "off, daily, weekly, monthly, or a duration such as 3d"
    found = typed(node, expects)
    if found in OFF:
        return None
    if found in CADENCES:
        return CADENCES[found]
    every = _seconds(node, found, expects) if re.fullmatch(r".*[hdw]", found) else timedelta(0)
    if every <= timedelta(0):
        node.wrong(expects)
    return every


def _written_cadence(value: timedelta) -> str:
    return next((word for word, every in CADENCES.items() if every == value), written_span(value))


CADENCE = Kind(
    "off, hourly, daily, weekly, monthly, or a duration such as 3d",
    _cadence,
    {
        "anyOf": [
            {"const": False},
            {"enum": [*OFF, *CADENCES]},
            {
                "type": "string",
                "pattern": r"^(?!0+(\.0+)?\s*[hdw])("
                + "|".join(f"[0-9]{{1,{_DIGITS[unit]}}}{_FRACTION}\\s*{unit}" for unit in "hdw")
                + ")$",
            },
        ]
    },
    _written_cadence,
    OFF[0],
)


def _budget(node: Node) -> timedelta:
    expects = "a false-alarm budget of at least 2 days, as 1 per 365d"
    found = re.fullmatch(r"1\s+per\s+(\d+(?:\.\d+)?\s*[dw])", typed(node, expects))
    if found is None:
        node.wrong("a false-alarm budget, as 1 per 365d")
    days = _seconds(node, found[1], expects)
    if days < timedelta(days=2):
        node.wrong(expects)
    return days


BUDGET = Kind(
    "a false-alarm budget, as 1 per 365d",
    _budget,
    {
        "type": "string",
        "pattern": rf"^1\s+per\s+(([2-9]|[1-9][0-9]{{1,3}}){_FRACTION}\s*d|[1-9][0-9]{{0,2}}{_FRACTION}\s*w)$",
    },
    lambda value: f"1 per {written_span(value)}",
)
