from __future__ import annotations

import io
import math
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from trueline.demo import program, report
from trueline.demo.flights import START, Flights
from trueline.demo.ledger import Ledger
from trueline.demo.live import TOLD, Lines, Screen, line, sparkline, watcher
from trueline.demo.planted import PLANS, Push
from trueline.demo.summary import Stopped, Year
from trueline.web.api.events import EventView
from trueline.web.api.incidents import IncidentView
from trueline.web.api.staleness import AgeView, StalenessView
from trueline.web.svg import Chart, Line, Mark, Span, nice

VOID = {"meta", "br", "line", "rect", "circle", "polyline", "polygon", "path", "th"}


class Balance(HTMLParser):
    """Fails on a tag that is closed without being open; collects text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):  # noqa: ARG002 the parser's signature
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def year(drawn: Flights) -> Year:
    truth = np.array([np.nan if one.air_time is None else one.air_time for one in drawn.served])
    ledger = Ledger(drawn.served, truth + 12, truth - 6)
    for flight in drawn.served:
        ledger.answered(flight, (flight.air_time or 0) + 5, 1, f"p-{flight.number}")
    push = Push(PLANS[0])
    push.run, push.version, push.verdict, push.reason = "run-2", 2, "fail", "worse by <b>far</b> & useless live"
    events = [
        EventView(
            id=number, at=START + timedelta(days=number), wall_at=START, kind=kind, ref="release-1", actor="control",
            reason=f"the reason of {kind} <&>", detail={"version": number, "verdict": "pass"},
        )
        for number, kind in enumerate(["release.promote", *TOLD])
    ]  # fmt: skip
    page = IncidentView(
        id="i",
        state="closed",
        version=1,
        reason="37 % worse",
        advice="retrain",
        opened_at=START,
        closed_at=START + timedelta(days=9),
    )
    return Year(ledger, events, [page], [Stopped(push, None)], 112, 100, 1.0)


def test_the_page_is_balanced_self_contained_and_escapes_what_it_tells(year):
    ages = [
        AgeView(age_days=day, ratio=1 + day / 100, low=0.98 + day / 200, high=1.05 + day / 90, blocks=9)
        for day in (0, 7, 14)
    ]
    page = report.page(year, StalenessView(sentence="4 % a week <&>", ages=ages))
    reader = Balance()
    reader.feed(page)
    assert reader.open == []
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "worse by &lt;b&gt;far" in page
    text = " ".join(reader.text)
    assert "4 % a week <&>" in text
    assert all(f"the reason of {kind} <&>" in text for kind in TOLD)
    assert "nan" not in page.lower().replace("finance", "")


def test_a_replay_that_ended_early_still_makes_a_page(drawn):
    nothing = np.full(len(drawn.served), math.nan)
    bare = Year(Ledger(drawn.served, nothing, nothing), [], [], [], 0, 0, 0.0)
    page = report.page(bare, None)
    assert "ended before the summer" in page
    assert "How fast this model rots" not in page


def test_a_line_breaks_where_nothing_is_known():
    drawn_ = Chart("t", [Line("a", "x", [(0, 1), (1, 2), (2, math.nan), (3, 1), (4, 1)])], [(0, "a")], "min").draw()
    assert drawn_.count("<polyline") == 2


def test_marks_and_spans_carry_their_sentences():
    chart = Chart(
        "t",
        [Line("a", "x", [(0, 1), (9, 2)])],
        [(0, "a")],
        "min",
        marks=[Mark(3, "bad", "a & b")],
        spans=[Span(1, 2, "alert", "<why>")],
    )
    assert "a &amp; b" in chart.draw()
    assert "&lt;why&gt;" in chart.draw()


@pytest.mark.parametrize(
    ("step", "next_one"), [(0.9, 1), (1.0, 1), (4.3, 5), (21, 25), (0, 1), (math.inf, 1), (0.03, 0.05)]
)
def test_grid_steps_are_round(step, next_one):
    assert nice(step) == pytest.approx(next_one)


def test_sparklines_scale_to_the_top_and_leave_gaps():
    assert sparkline([0, 10, math.nan, 20], 10) == "▁█ █"
    assert sparkline([1.0], 0.0) == "▁"


def test_an_event_is_one_line_with_its_reason(year):
    told = line(replace_event(year.events[0], reason="first\nsecond")).plain
    assert told.endswith("first second")
    assert "promoted" in told
    assert "v0" in told


def replace_event(event: EventView, **changes) -> EventView:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return EventView(**{**fields, **changes})


def test_without_a_terminal_the_year_is_plain_lines(year):
    out = io.StringIO()
    with Lines(Console(file=out, width=40), year.ledger) as lines:
        for event in year.events:
            lines.happened(event)
        lines.ticked(START + timedelta(days=2))
        lines.ticked(START + timedelta(days=28))
    told = out.getvalue().splitlines()
    assert len(told) == len(year.events) + 1
    assert told[-1] == "February: off by 5.0 min on average; January's model by 12.0"


def test_on_a_terminal_the_screen_shows_both_errors_and_the_story(year):
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True, color_system=None)
    with Screen(console, year.ledger) as screen:
        for event in year.events:
            screen.happened(event)
        screen.ticked(START + timedelta(days=20))
    console.print(screen._render())
    assert "January's model" in out.getvalue()
    assert "12.0 min" in out.getvalue()
    assert "the reason of" in out.getvalue()


def test_a_pipe_gets_lines(year):
    assert type(watcher(year.ledger)) is Lines


def test_the_table_has_a_row_a_month_and_the_figures_in_words(year):
    out = io.StringIO()
    program.show(year, Console(file=out, width=120))
    assert "Feb" in out.getvalue()
    assert "12.00" in out.getvalue()
    assert "112 predictions were acknowledged, 112 are stored" in out.getvalue()
    assert "was stopped by its gate (fail)" in out.getvalue()


def test_a_waived_push_that_was_not_sent_back_is_not_called_so(year):
    push = Push(PLANS[1])
    told = replace(year, stopped=[Stopped(push, None)]).as_dict()
    assert told["canary_rolled_back"] is None
