"""Line charts as SVG text: enough for a report and a page, themed by the page's CSS, no library.

`Frame` is the plane that everything is placed on; `line`, `band`, `mark` and `span` draw on it, and `Chart` is the plain
chart that they make together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True)
class Frame:
    """Data units to places: x from `low` to `high`, y from `floor` to `top`, inside margins of a picture."""

    low: float
    high: float
    floor: float
    top: float
    width: float = 920
    height: float = 320
    left: float = 46
    right: float = 20
    above: float = 26
    below: float = 34

    @property
    def bottom(self) -> float:
        """Where the plane ends below."""
        return self.height - self.below

    def x(self, value: float) -> float:
        return self.left + (value - self.low) / ((self.high - self.low) or 1.0) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        share = (min(max(value, self.floor), self.top) - self.floor) / ((self.top - self.floor) or 1.0)
        return self.bottom - share * (self.bottom - self.above)


@dataclass(frozen=True)
class Line:
    """A named series; `tone` is the class that gives it its colour. Points with NaN break the line."""

    name: str
    tone: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


@dataclass(frozen=True)
class Mark:
    """Something that happened at `x`: a tick on the upper edge, with its sentence as a tooltip."""

    x: float
    tone: str
    title: str


@dataclass(frozen=True)
class Span:
    """A stretch of x, shaded over the whole height."""

    start: float
    end: float
    tone: str
    title: str


@dataclass(frozen=True)
class Chart:
    """What is drawn, in data units; `ticks` are (x, text) pairs under the axis."""

    title: str
    lines: Sequence[Line]
    ticks: Sequence[tuple[float, str]]
    unit: str
    floor: float = 0.0
    top: float | None = None
    marks: Sequence[Mark] = ()
    spans: Sequence[Span] = ()
    bands: Sequence[tuple[str, Sequence[tuple[float, float, float]]]] = ()  # (tone, (x, low, high))
    centred: bool = True  # a tick's text stands in the middle of its stretch rather than at its x
    grid: float | None = field(default=None)

    def draw(self) -> str:
        """The chart as an `<svg>` element."""
        values = [y for one in self.lines for _, y in one.points if math.isfinite(y)]
        values += [high for _, band in self.bands for _, _, high in band if math.isfinite(high)]
        step = self.grid or nice((max(values, default=1.0) - self.floor) / 5)
        top = self.top or self.floor + step * max(1, math.ceil((max(values, default=1.0) - self.floor) / step))
        xs = [x for one in self.lines for x, _ in one.points] + [x for x, _ in self.ticks]
        frame = Frame(min(xs, default=0.0), max(xs, default=1.0), self.floor, top)
        parts = [
            f'<svg viewBox="0 0 {frame.width:g} {frame.height:g}" role="img" aria-label="{escape(self.title)}">',
            *(span(frame, one) for one in self.spans),
            *self._axes(frame, step, top),
            *(band(frame, tone, edges) for tone, edges in self.bands),
            *(part for one in self.lines for part in line(frame, one)),
            *(mark(frame, one) for one in self.marks),
            "</svg>",
        ]
        return "\n".join(parts)

    def _axes(self, frame: Frame, step: float, top: float) -> list[str]:
        parts = [level(frame, self.floor + count * step) for count in range(round((top - self.floor) / step) + 1)]
        parts.append(f'<text class="axis" x="{frame.left - 8:g}" y="14" text-anchor="end">{escape(self.unit)}</text>')
        ends = [x for x, _ in self.ticks[1:]] + [frame.high]
        for (x, text), end in zip(self.ticks, ends, strict=True):
            place = (x + end) / 2 if self.centred else x
            parts.append(
                f'<text class="axis" x="{frame.x(place):.1f}" y="{frame.height - 12:g}" text-anchor="middle">{escape(text)}</text>'
            )
            parts.append(
                f'<line class="grid" x1="{frame.x(x):.1f}" x2="{frame.x(x):.1f}" y1="{frame.bottom:g}" y2="{frame.bottom + 5:g}"/>'
            )
        return parts


def level(frame: Frame, value: float) -> str:
    """A line of the grid with its value beside it."""
    y, end = frame.y(value), frame.width - frame.right
    return (
        f'<line class="grid" x1="{frame.left:g}" x2="{end:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="axis" x="{frame.left - 8:g}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    )


def nice(step: float) -> float:
    """The next step of 1, 2, 2.5 or 5 times a power of ten.

    >>> nice(3.7), nice(0.012), nice(7)
    (5.0, 0.02, 10.0)
    """
    if not math.isfinite(step) or step <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))


def line(frame: Frame, drawn: Line) -> list[str]:
    parts, piece = [], list[str]()
    for x, y in [*drawn.points, (math.nan, math.nan)]:
        if math.isfinite(y):
            piece.append(f"{frame.x(x):.1f},{frame.y(y):.1f}")
            continue
        if piece:
            parts.append(
                f'<polyline class="line {drawn.tone}" points="{" ".join(piece)}"><title>{escape(drawn.name)}</title></polyline>'
            )
        piece = []
    if drawn.dots:
        parts += [
            f'<circle class="dot {drawn.tone}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3.5"><title>{y:.3g}</title></circle>'
            for x, y in drawn.points
            if math.isfinite(y)
        ]
    return parts


def band(frame: Frame, tone: str, edges: Sequence[tuple[float, float, float]]) -> str:
    upper = [f"{frame.x(x):.1f},{frame.y(high):.1f}" for x, _, high in edges]
    lower = [f"{frame.x(x):.1f},{frame.y(low):.1f}" for x, low, _ in reversed(edges)]
    return f'<polygon class="band {tone}" points="{" ".join(upper + lower)}"/>'


def mark(frame: Frame, drawn: Mark) -> str:
    x = frame.x(drawn.x)
    return (
        f'<g class="mark {drawn.tone}"><title>{escape(drawn.title)}</title>'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{frame.above:g}" y2="{frame.bottom:g}"/>'
        f'<path d="M{x - 5:.1f} {frame.above - 9:g} h10 l-5 9 z"/></g>'
    )


def span(frame: Frame, drawn: Span) -> str:
    x, end = frame.x(drawn.start), frame.x(drawn.end)
    return (
        f'<rect class="span {drawn.tone}" x="{x:.1f}" y="{frame.above:g}" width="{max(2.0, end - x):.1f}" '
        f'height="{frame.bottom - frame.above:g}"><title>{escape(drawn.title)}</title></rect>'
    )
