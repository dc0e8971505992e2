"""Line charts as SVG text: enough for one report, themed by the page's CSS variables, no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 920, 320
LEFT, RIGHT, TOP, BOTTOM = 46, 20, 26, 34


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
        frame = _Frame(min(xs, default=0.0), max(xs, default=1.0), self.floor, top)
        parts = [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.title)}">',
            *(_span(frame, span) for span in self.spans),
            *self._axes(frame, step, top),
            *(_band(frame, tone, band) for tone, band in self.bands),
            *(part for one in self.lines for part in _line(frame, one)),
            *(_mark(frame, mark) for mark in self.marks),
            "</svg>",
        ]
        return "\n".join(parts)

    def _axes(self, frame: _Frame, step: float, top: float) -> list[str]:
        parts = []
        for count in range(round((top - self.floor) / step) + 1):
            value = self.floor + count * step
            y = frame.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="axis" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        parts.append(f'<text class="axis" x="{LEFT - 8}" y="14" text-anchor="end">{escape(self.unit)}</text>')
        ends = [x for x, _ in self.ticks[1:]] + [frame.high]
        for (x, text), end in zip(self.ticks, ends, strict=True):
            place = (x + end) / 2 if self.centred else x
            parts.append(
                f'<text class="axis" x="{frame.x(place):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(text)}</text>'
            )
            parts.append(
                f'<line class="grid" x1="{frame.x(x):.1f}" x2="{frame.x(x):.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 5}"/>'
            )
        return parts


@dataclass(frozen=True)
class _Frame:
    low: float
    high: float
    floor: float
    top: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / ((self.high - self.low) or 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (min(max(value, self.floor), self.top) - self.floor) / ((self.top - self.floor) or 1.0)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def nice(step: float) -> float:
    """The next step of 1, 2, 2.5 or 5 times a power of ten.

    >>> nice(3.7), nice(0.012), nice(7)
    (5.0, 0.02, 10.0)
    """
    if not math.isfinite(step) or step <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))


def _line(frame: _Frame, line: Line) -> list[str]:
    parts, piece = [], list[str]()
    for x, y in [*line.points, (math.nan, math.nan)]:
        if math.isfinite(y):
            piece.append(f"{frame.x(x):.1f},{frame.y(y):.1f}")
            continue
        if piece:
            parts.append(
                f'<polyline class="line {line.tone}" points="{" ".join(piece)}"><title>{escape(line.name)}</title></polyline>'
            )
        piece = []
    if line.dots:
        parts += [
            f'<circle class="dot {line.tone}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3.5"><title>{y:.3g}</title></circle>'
            for x, y in line.points
            if math.isfinite(y)
        ]
    return parts


def _band(frame: _Frame, tone: str, band: Sequence[tuple[float, float, float]]) -> str:
    upper = [f"{frame.x(x):.1f},{frame.y(high):.1f}" for x, _, high in band]
    lower = [f"{frame.x(x):.1f},{frame.y(low):.1f}" for x, low, _ in reversed(band)]
    return f'<polygon class="band {tone}" points="{" ".join(upper + lower)}"/>'


def _mark(frame: _Frame, mark: Mark) -> str:
    x = frame.x(mark.x)
    return (
        f'<g class="mark {mark.tone}"><title>{escape(mark.title)}</title>'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<path d="M{x - 5:.1f} {TOP - 9} h10 l-5 9 z"/></g>'
    )


def _span(frame: _Frame, span: Span) -> str:
    x, end = frame.x(span.start), frame.x(span.end)
    return (
        f'<rect class="span {span.tone}" x="{x:.1f}" y="{TOP}" width="{max(2.0, end - x):.1f}" '
        f'height="{HEIGHT - TOP - BOTTOM}"><title>{escape(span.title)}</title></rect>'
    )
