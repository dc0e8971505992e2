"""The first page: what serves, the performance curve, and the loop's timeline with its reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec

from trueline.errors import InvalidInput
from trueline.web.api.calls import ApiResponse, view, views
from trueline.web.api.events import EventView
from trueline.web.api.performance import DayView, PerformanceView
from trueline.web.pages import incidents, picture, story
from trueline.web.pages.calls import Look

EVENTS = 40
"""On one page of the timeline."""

MARKS = 800
"""In the picture: the newest; what is older is left to the list."""

LENGTHS = {30: "month", 90: "quarter", 366: "year", 1096: "3 years"}


class OverviewQuery(msgspec.Struct, forbid_unknown_fields=True):
    days: int = 366
    until: date | None = None
    show: str | None = None  # one lane of the timeline
    before: int | None = None  # older events than this one


def show(look: Look) -> ApiResponse:
    asked = _asked(look.query)
    status = look.status
    needs = look.services.needs(status.release.id) if status.release is not None else None
    found = look.services.performance(days=asked.days, until=asked.until)
    performance = view(found, PerformanceView)
    told = story.kinds(asked.show)
    events = views(look.services.timeline(before=asked.before, limit=EVENTS, kinds=told), EventView)
    return look.render(
        "overview.html",
        needs=needs,
        incidents=[(incident, incidents.suspected(incident)) for incident in status.incidents],
        asked=asked,
        performance=performance,
        latest=next((day for day in reversed(performance.days) if day.loss is not None), None),
        pictures=_pictures(look, performance, asked.until),
        rows=_rows(performance),
        events=[(event, story.telling(event)) for event in events],
        older=_address(asked, before=events[-1].id) if len(events) == EVENTS else None,
        newest=_address(asked, before=None),
        lanes=[(lane, _address(asked, show=lane, before=None)) for lane in (None, *story.LANES)],
        lengths=[(words, count, _address(asked, days=count)) for count, words in LENGTHS.items()],
        earlier=_address(asked, until=performance.days[0].day - timedelta(days=1)) if performance.earlier else None,
        now=_address(asked, until=None),
    )


def _asked(query: Mapping[str, str]) -> OverviewQuery:
    try:
        asked = msgspec.convert(dict(query), OverviewQuery, strict=False)
    except msgspec.ValidationError as wrong:
        raise InvalidInput(f"the address of this page is wrong: {wrong}") from wrong
    if asked.days not in LENGTHS:
        raise InvalidInput(f"days must be one of {', '.join(map(str, LENGTHS))}, not {asked.days}")
    if asked.show is not None and asked.show not in story.LANES:
        raise InvalidInput(f"show must be one of {', '.join(story.LANES)}")
    return asked


def _pictures(look: Look, performance: PerformanceView, until: date | None) -> list[tuple[str, str]]:
    """The same picture for a wide and for a narrow window."""
    if not performance.days:
        return []
    first, last = performance.days[0].day, performance.days[-1].day
    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    end = look.status.now
    if until is not None:
        end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    found = look.services.timeline(before=None, limit=MARKS, kinds=story.kinds(None), since=since)
    marks = picture.marks(event for event in views(found, EventView) if event.at <= end)
    return [(name, picture.draw(performance, marks, size, until=end)) for name, size in picture.SIZES.items()]


def _rows(performance: PerformanceView) -> Sequence[tuple[DayView, bool]]:
    """Each day, and whether it was beyond the limit."""
    limit = performance.promise.limit if performance.promise else None
    return [(day, limit is not None and day.loss is not None and day.loss > limit) for day in performance.days]


def _address(asked: OverviewQuery, **changed: Any) -> str:
    """This page with another choice, and nothing in its address that is a default."""
    wanted = {**msgspec.structs.asdict(asked), **changed}
    usual = msgspec.structs.asdict(OverviewQuery())
    query = {name: str(value) for name, value in wanted.items() if value != usual[name]}
    return f"/?{urlencode(query)}" if query else "/"
