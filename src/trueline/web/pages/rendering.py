"""Templates to bytes. Everything that people or programs wrote is escaped; markup comes from this package alone."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from trueline.web.api.calls import ApiResponse
from trueline.web.pages import links

HERE = Path(__file__).parent
STATIC = {
    "page.css": "text/css",
    "live.js": "text/javascript",
    "curve.js": "text/javascript",
    "log.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FOR_EVER = "public, max-age=31536000, immutable"


def html(template: str, status: int = 200, headers: dict[str, str] | None = None, /, **values: Any) -> ApiResponse:
    """A page from a template."""
    text = _environment().get_template(template).render(**values)
    return ApiResponse(status, text.encode(), "text/html", {**HEADERS, **(headers or {})})


def see_other(where: str, headers: dict[str, str] | None = None) -> ApiResponse:
    return ApiResponse(303, b"", "text/html", {**HEADERS, "Location": where, **(headers or {})})


def static(name: str) -> ApiResponse | None:
    """A file of the pages; its address carries its digest, so it may be kept for ever."""
    if name not in STATIC:
        return None
    return ApiResponse(200, _content(name), STATIC[name], {**HEADERS, "Cache-Control": _FOR_EVER})


@cache
def _content(name: str) -> bytes:
    return (HERE / "static" / name).read_bytes()


@cache
def asset(name: str) -> str:
    """The address of a static file."""
    return f"/static/{name}?{hashlib.sha256(_content(name)).hexdigest()[:12]}"


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        when=when, number=number, share=share, span=span, pretty=pretty, plain=plain, capitalize_first=capitalize_first
    )
    made.globals.update(asset=asset, link=links.to, link_of=links.of)
    return made


def when(moment: datetime | None) -> str:
    """A time as people read it, in UTC.

    >>> when(datetime(2013, 7, 4, 9, 5, tzinfo=UTC))
    '4 Jul 2013, 09:05'
    """
    if moment is None:
        return "–"
    at = moment.astimezone(UTC)
    return f"{at.day} {at:%b %Y, %H:%M}"


def number(value: float | None) -> str:
    """A figure with four digits that count, or a whole number with its thousands apart.

    >>> number(6.76712), number(12345), number(None), number(0.000123456)
    ('6.767', '12,345', '–', '0.0001235')
    """
    if value is None:
        return "–"
    if isinstance(value, int) or (abs(value) >= 1000 and abs(value) < 1e15):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 or value == 0 else f"{value:.2g}"


def span(length: timedelta) -> str:
    """A length of time in its largest whole unit.

    >>> span(timedelta(days=3, hours=4)), span(timedelta(minutes=90)), span(timedelta(0))
    ('3 days', '1 hour', 'less than a minute')
    """
    for unit, size in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        count = length // size
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def capitalize_first(sentence: str) -> str:
    """A sentence that begins like one, its other words as they were."""
    return sentence[:1].upper() + sentence[1:]


def pretty(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)


def plain(value: object) -> str:
    """A fact of any kind in one line."""
    match value:
        case bool():
            text = "yes" if value else "no"
        case int() | float():
            text = number(value)
        case datetime():
            text = when(value)
        case dict():
            text = ", ".join(
                f"{name}: {plain(one)}" for name, one in value.items() if one not in (None, "", [], (), {})
            )
        case list() | tuple():
            text = ", ".join(plain(one) for one in value)
        case _:
            text = "" if value is None else str(value)
    return text or "–"
