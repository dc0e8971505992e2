"""The performance curve and the loop's timeline on one time axis.

Above, each labelled day is a dot and the line is their mean over seven days, each counted by its labels; a dashed line is
the limit that was promised, and the ground is shaded by who served. Below, one lane says who served and one for each part
of the loop what it did. A day far beyond the rest is drawn at the upper edge, as a triangle, so that it does not flatten
the others.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from html import escape
from statistics import quantiles

from markupsafe import Markup

from trueline.web import svg
from trueline.web.api.events import EventView
from trueline.web.api.performance import DayView, PerformanceView
from trueline.web.pages import links, story
from trueline.web.pages.rendering import number, when

DAY = timedelta(days=1)
SMOOTH = 7  # days
TONES = 6  # of versions
LANE = 24.0
LEVELS = 5  # lines of the grid, about
FAR = 1.2
"""Times the limit, or nearly all days: what is beyond is not drawn in its place."""

ROOM = 1.1
"""Above the highest value that is drawn in its place."""


@dataclass(frozen=True)
class Size:
    """A picture's measures; `titles` are for those who can point at something."""

    width: float
    plot: float
    left: float
    label: float  # room that a month's name takes
    titles: bool


SIZES = {"wide": Size(1040, 260, 84, 44, titles=True), "narrow": Size(400, 210, 74, 34, titles=False)}


SHAPES = {
    "good": "m-5 4h10l-5-9z",
    "bad": "m-5-4h10l-5 9z",
    "warn": "m0-5l5 5l-5 5l-5-5z",
    "move": "m-3-3h6v6h-6z",
    "calm": "m-.8-5h1.6v10h-1.6z",
}
"""By the tone of a telling, from the middle of the mark."""


@dataclass(frozen=True)
class Mark:
    """An event in its lane."""

    at: float
    telling: story.Telling
    title: str
    href: str | None


def marks(events: Iterable[EventView]) -> list[Mark]:
    """What is drawn of events, which come newest first: an older mark lies under a newer one."""
    found = []
    for event in events:
        telling = story.telling(event)
        title = f"{when(event.at)} · {telling.word} {event.ref}: {event.reason}"
        found.append(Mark(_moment(event.at), telling, title, links.to(event.ref)))
    return found[::-1]


def draw(performance: PerformanceView, events: Sequence[Mark], size: Size, *, until: datetime) -> Markup:
    """The picture as an `<svg>` element; `performance` has at least one day, and may end before the axis does."""
    frame = _frame(performance, size, until)
    below = frame.bottom + 14
    height = below + LANE * (len(story.LANES) + 1) + 24
    scale = (
        f'data-low="{frame.low:g}" data-high="{frame.high:g}" data-left="{frame.left:g}" data-right="{frame.right:g}"'
    )
    label = f'aria-label="{escape(_said(performance))}"'
    parts = [
        f'<svg viewBox="0 0 {frame.width:g} {height:g}" role="group" {scale} {label}>',
        *_ground(performance, frame),
        *_grid(frame),
        *_months(performance, frame, size, height),
        *_promise(performance, frame),
        *_losses(performance, frame),
        *_limit_text(performance, frame),
        *_reigns(performance, frame, below),
        *_lanes(performance, events, frame, size, below + LANE),
        f'<line class="cursor" x1="0" x2="0" y1="{frame.above:g}" y2="{height - 24:g}"/>',
        "</svg>",
    ]
    return Markup("\n".join(parts))  # noqa: S704 every text in it was escaped where it was put in


def _frame(performance: PerformanceView, size: Size, until: datetime) -> svg.Frame:
    first, last = performance.days[0].day, performance.days[-1].day
    losses = [day.loss for day in performance.days if day.loss is not None]
    usual = quantiles(losses, n=50)[-1] if len(losses) > 1 else max(losses, default=1.0)
    limit = performance.promise.limit if performance.promise else 0.0
    highest = max(min(max(losses, default=1.0), FAR * max(usual, limit)), limit)
    step = svg.nice(highest * ROOM / LEVELS)
    top = step * max(1, math.ceil(highest * ROOM / step - 1e-9))
    return svg.Frame(
        low=_at(first),
        high=max(_at(last) + 1, _moment(until)),
        floor=0.0,
        top=top,
        width=size.width,
        height=size.plot,
        left=size.left,
        right=10,
        above=26,
        below=0,
    )


def _at(day: date) -> float:
    return float(day.toordinal())


def _moment(at: datetime) -> float:
    return at.astimezone(UTC).toordinal() + (at.astimezone(UTC).hour * 60 + at.minute) / 1440


def _said(performance: PerformanceView) -> str:
    first, last = performance.days[0].day, performance.days[-1].day
    return f"{performance.metric} of {performance.target} by day, {first} to {last}, with what the loop did below it"


def _inside(frame: svg.Frame, since: datetime, until: datetime | None) -> tuple[float, float] | None:
    begin = max(_moment(since), frame.low)
    end = frame.high if until is None else min(_moment(until), frame.high)
    return (frame.x(begin), frame.x(end)) if frame.high >= begin and end >= begin else None


def _ground(performance: PerformanceView, frame: svg.Frame) -> Iterator[str]:
    """Who served, as a tint; incidents, as a stronger one."""
    tall = f'y="{frame.above:g}" height="{frame.bottom - frame.above:g}"'
    for reign in performance.reigns:
        if place := _inside(frame, reign.since, reign.until):
            yield f'<rect class="ground t{reign.version % TONES}" x="{place[0]:.1f}" width="{place[1] - place[0]:.1f}" {tall}/>'
    for incident in performance.incidents:
        if place := _inside(frame, incident.opened_at, incident.closed_at):
            wide = max(2.0, place[1] - place[0])
            yield f'<rect class="ground incident" x="{place[0]:.1f}" width="{wide:.1f}" {tall}/>'


def _grid(frame: svg.Frame) -> Iterator[str]:
    step = svg.nice(frame.top / (LEVELS + 1))
    for count in range(round(frame.top / step) + 1):
        yield svg.level(frame, count * step)


def _months(performance: PerformanceView, frame: svg.Frame, size: Size, height: float) -> Iterator[str]:
    """The time axis, under everything."""
    for day, text in _ticks(performance.days[0].day, date.fromordinal(math.ceil(frame.high) - 1), frame, size):
        x = frame.x(_at(day))
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.bottom:g}" y2="{height - 20:g}"/>'
        if x + size.label <= frame.width:
            yield f'<text class="axis" x="{x + 4:.1f}" y="{height - 8:g}">{text}</text>'
    yield f'<line class="base" x1="{frame.left:g}" x2="{frame.width - frame.right:g}" y1="{frame.bottom:g}" y2="{frame.bottom:g}"/>'
    yield f'<line class="grid" x1="{frame.left:g}" x2="{frame.width - frame.right:g}" y1="{height - 24:g}" y2="{height - 24:g}"/>'


def _ticks(first: date, last: date, frame: svg.Frame, size: Size) -> list[tuple[date, str]]:
    """Weeks or months, as many as have room for their names."""
    a_day = (frame.width - frame.left - frame.right) / (frame.high - frame.low)
    if a_day * 7 >= size.label * 1.2:
        start = first + (7 - first.weekday()) % 7 * DAY
        return [
            (start + week * 7 * DAY, f"{(start + week * 7 * DAY):%d %b}")
            for week in range((last - start).days // 7 + 1)
        ]
    every = next(months for months in (1, 2, 3, 6, 12, 1200) if a_day * 30.4 * months >= size.label)
    months = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    starts = [date(count // 12, count % 12 + 1, 1) for count in months if count % every == 0 or every == 1]
    shown = [day for day in starts if day >= first]
    return [(day, f"{day:%Y}" if day.month == 1 else f"{day:%b}") for day in shown]


def _promise(performance: PerformanceView, frame: svg.Frame) -> Iterator[str]:
    if performance.promise is None:
        return
    y, end = frame.y(performance.promise.limit), frame.width - frame.right
    yield f'<line class="limit" x1="{frame.left:g}" x2="{end:g}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _limit_text(performance: PerformanceView, frame: svg.Frame) -> Iterator[str]:
    """Over the dots, with a rim, for there may be many."""
    if performance.promise is None:
        return
    y, end = frame.y(performance.promise.limit), frame.width - frame.right
    told = f"promised: at most {number(performance.promise.limit)}"
    yield f'<text class="limit-text" x="{end - 4:g}" y="{y - 6:.1f}" text-anchor="end">{told}</text>'


def _losses(performance: PerformanceView, frame: svg.Frame) -> Iterator[str]:
    """The days as dots (lines of no length with round ends: one element however many), and their mean as a line."""
    limit = performance.promise.limit if performance.promise else math.inf
    places: dict[str, list[str]] = {"day": [], "day beyond": [], "day beyond far": []}
    for day in performance.days:
        if day.loss is None:
            continue
        x = frame.x(_at(day.day) + 0.5)
        if day.loss > frame.top:
            places["day beyond far"].append(f"M{x - 4:.1f} {frame.above + 8:g}h8l-4-7z")
        else:
            places["day beyond" if day.loss > limit else "day"].append(f"M{x:.1f} {frame.y(day.loss):.1f}h0")
    for tone, dots in places.items():
        if dots:
            yield f'<path class="{tone}" d="{"".join(dots)}"/>'
    points = [(_at(day.day) + 0.5, mean) for day, mean in _smoothed(performance.days)]
    yield from svg.line(frame, svg.Line(f"mean of {SMOOTH} days", "smooth", points))


def _smoothed(days: Sequence[DayView]) -> Iterator[tuple[DayView, float]]:
    """The mean over the days up to each, weighted by labels; NaN over a gap, which breaks the line."""
    known: deque[tuple[date, int, float]] = deque()
    for day in days:
        if day.loss is None:
            yield day, math.nan
            continue
        known.append((day.day, day.labelled, day.loss))
        while (day.day - known[0][0]).days >= SMOOTH:
            known.popleft()
        total = sum(count for _, count, _ in known)
        yield day, sum(count * loss for _, count, loss in known) / total if total else math.nan


def _reigns(performance: PerformanceView, frame: svg.Frame, top: float) -> Iterator[str]:
    """The lane of who served, each version in its tone and with its number where there is room."""
    yield _lane_name(frame, top, "served by")
    for reign in performance.reigns:
        place = _inside(frame, reign.since, reign.until)
        if place is None:
            continue
        wide, text = place[1] - place[0], f"v{reign.version}"
        told = f"version {reign.version} served from {when(reign.since)}" + (
            f" to {when(reign.until)}" if reign.until else ""
        )
        yield f'<a href="/versions/{reign.version}" tabindex="-1"><title>{told}</title>'
        yield f'<rect class="reign t{reign.version % TONES}" x="{place[0]:.1f}" y="{top + 4:g}" width="{max(1.0, wide - 1):.1f}" height="{LANE - 8:g}"/>'
        if wide > 7 * len(text) + 4:
            yield f'<text class="reign-text" x="{place[0] + wide / 2:.1f}" y="{top + LANE / 2 + 4:g}" text-anchor="middle">{text}</text>'
        yield "</a>"


def _lane_name(frame: svg.Frame, top: float, text: str) -> str:
    return f'<text class="axis" x="{frame.left - 8:g}" y="{top + LANE / 2 + 4:g}" text-anchor="end">{text}</text>'


def _lanes(
    performance: PerformanceView, marks: Sequence[Mark], frame: svg.Frame, size: Size, top: float
) -> Iterator[str]:
    for place, lane in enumerate(story.LANES):
        middle = top + place * LANE + LANE / 2
        yield _lane_name(frame, top + place * LANE, lane)
        yield f'<line class="lane" x1="{frame.left:g}" x2="{frame.width - frame.right:g}" y1="{middle:g}" y2="{middle:g}"/>'
        if lane == story.INCIDENTS:
            yield from _incidents(performance, frame, middle)
        for mark in marks:
            if mark.telling.lane == lane and frame.low <= mark.at <= frame.high:
                yield _mark(mark, frame.x(mark.at), middle, size)


def _incidents(performance: PerformanceView, frame: svg.Frame, middle: float) -> Iterator[str]:
    for incident in performance.incidents:
        if place := _inside(frame, incident.opened_at, incident.closed_at):
            wide = max(4.0, place[1] - place[0])
            yield (
                f'<a href="{links.to(incident.id)}" tabindex="-1"><title>{escape(incident.reason)}</title>'
                f'<rect class="bar bad" x="{place[0]:.1f}" y="{middle - 5:g}" width="{wide:.1f}" height="10" rx="2"/></a>'
            )


def _mark(mark: Mark, x: float, y: float, size: Size) -> str:
    """One event: its shape by what it was, its title for whoever points at it."""
    shape = f'<path class="mark {mark.telling.tone}" d="M{x:.1f} {y:g}{SHAPES[mark.telling.tone]}"/>'
    if not size.titles:
        return shape
    if mark.href is None:
        return f"<g><title>{escape(mark.title)}</title>{shape}</g>"
    return f'<a href="{mark.href}" tabindex="-1"><title>{escape(mark.title)}</title>{shape}</a>'
