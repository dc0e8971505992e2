"""The first page as somebody sees it: true, alive, and for everybody."""

import re
import time
from datetime import timedelta
from itertools import pairwise

import pytest

from trueline.web.pages.overview import EVENTS
from trueline.web.pages.story import kinds

pytestmark = pytest.mark.real

LIVE = "#live[data-state=on]"
PATIENCE = 30.0


def until(page, expression):
    """Wait for something to be true in the page; its own waiting would need `eval`, which the page forbids."""
    deadline = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def events(page):
    """Ids of the events in the list, as they stand there."""
    return page.eval_on_selector_all("#timeline li", "items => items.map(item => +item.dataset.event)")


def told(past):
    """What the list should hold: the newest events of the story."""
    services = past.services()
    found = [event.id for event in services.timeline(before=None, limit=EVENTS, kinds=kinds(None))]
    services.close()
    return found


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, bright = sorted([luminance(one), luminance(other)])
    return (bright + 0.05) / (dark + 0.05)


def test_it_shows_champion_curve_and_timeline_and_asks_nobody_else(visit, control, past):
    page = visit()
    page.wait_for_selector(LIVE)
    assert page.url == control.url + "/"
    assert page.inner_text("h1") == "Version 2 serves"
    assert page.locator(".picture.wide svg .reign").count() == 2
    assert page.locator(".picture.wide path.day").first.is_visible()
    assert events(page) == told(past)
    assert all(url.startswith(control.url) for url in page.asked)
    assert page.evaluate("document.cookie") == ""


def test_without_a_way_in_it_says_how(chromium, control):
    page = chromium.new_page()
    answer = page.goto(control.url)
    assert answer.status == 401
    assert page.inner_text("pre") == "trueline open"
    page.get_by_label("Or paste a token").fill(control.token)
    page.get_by_role("button", name="Come in").click()
    page.wait_for_selector("text=Version 2 serves")
    page.close()


def test_what_happens_meanwhile_appears_by_itself(visit, past):
    page = visit()
    page.wait_for_selector(LIVE)
    page.evaluate("window.untouched = true")
    first = page.query_selector("#timeline li")
    (number,) = past.events(1, kind="gate.decide", reason="<b>pass</b>: it is better by far")
    page.wait_for_selector(f"#event-{number}")
    assert page.inner_text(f"#event-{number} p").startswith("<b>pass</b>: it is better by far")
    assert events(page) == told(past)
    assert first.evaluate("node => node.isConnected")  # what was there stayed
    past.champion("the third")
    page.wait_for_selector("h1:has-text('Version 3 serves')")
    until(page, "document.querySelectorAll('.picture.wide .reign').length === 3")
    past.incident("the live model is worse than promised")
    page.wait_for_selector("[role=alert]:has-text('worse than promised')")
    assert page.evaluate("window.untouched")


def test_over_a_restart_page_and_stream_neither_lose_nor_double_an_event(visit, control, past):
    page = visit()
    page.wait_for_selector(LIVE)
    page.evaluate(
        """() => {
            window.heard = [];
            const source = new EventSource("/api/v1/events/stream");
            source.onopen = () => (window.opened = true);
            source.onmessage = (event) => window.heard.push([+event.lastEventId, JSON.parse(event.data).reason]);
        }"""
    )
    until(page, "window.opened")
    made = past.events(3, reason="heard")
    page.wait_for_selector(f"#event-{made[-1]}")
    control.stop()
    page.wait_for_selector("#live[data-state=lost]")
    made += past.events(5, reason="heard")
    control.start()
    page.wait_for_selector(LIVE)
    page.wait_for_selector(f"#event-{made[-1]}")
    made += past.events(3, reason="heard")
    page.wait_for_selector(f"#event-{made[-1]}")
    until(page, f"window.heard.length >= {len(made)}")
    assert [number for number, reason in page.evaluate("window.heard") if reason == "heard"] == made
    assert events(page) == told(past)
    assert set(made) <= set(events(page))
    page.wrong[:] = [line for line in page.wrong if "ERR_CONNECTION" not in line and "ERR_INCOMPLETE" not in line]


def test_the_days_are_told_by_arrow_keys(visit, past):
    page = visit()
    reading = page.locator("#reading")
    usual = reading.inner_text()
    page.focus("[data-curve]")
    page.keyboard.press("End")
    last = (past.now - timedelta(days=1)).date()
    assert re.match(
        rf"{last}: \d.* over 60 labelled of 70 predictions, served by v\d; promised: at most", reading.inner_text()
    )
    page.keyboard.press("ArrowLeft")
    assert reading.inner_text().startswith(str(last - timedelta(days=1)))
    page.keyboard.press("Home")
    assert reading.inner_text().startswith("2023-01-01")
    page.keyboard.press("Escape")
    assert reading.inner_text() == usual


def test_the_day_under_the_pointer_is_told(visit):
    page = visit()
    box = page.locator(".picture.wide svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    assert " over 60 labelled" in page.locator("#reading").inner_text()
    assert page.locator(".picture.wide .cursor.on").count() == 1
    before = page.locator("figure").bounding_box()
    page.mouse.move(0, 0)
    assert page.locator("figure").bounding_box() == before  # nothing jumped


def test_everything_is_reached_by_the_keyboard(visit):
    page = visit()
    page.wait_for_selector(LIVE)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')").startswith("/versions/")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.tagName + ' ' + document.activeElement.textContent.trim().slice(0, 8)"
            )
        )
    assert {"A quarter", "SUMMARY The days", "A gates"} <= reached
    assert any(one.startswith("FIGURE") for one in reached)
    page.get_by_role("link", name="gates", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**show=gates**")
    assert page.get_by_role("link", name="gates", exact=True).get_attribute("aria-current") == "true"


def test_looking_again_leaves_the_focus_and_what_was_opened(visit, past):
    page = visit()
    page.wait_for_selector(LIVE)
    page.click("summary")
    page.focus("[data-curve]")
    page.keyboard.press("End")
    past.days(1)
    (number,) = past.events(1, reason="one more day")
    page.wait_for_selector(f"#event-{number}")
    assert page.evaluate("document.activeElement.matches('[data-curve]')")
    assert page.evaluate("document.querySelector('details.days').open")


def test_a_narrow_window_needs_no_scrolling_sideways(visit, control):
    page = visit(viewport={"width": 360, "height": 740})
    for path in ("/", "/gates/gate-1", "/releases/release-1", "/runs/run-1", "/versions/1"):
        page.goto(control.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_or_dark_as_the_system_is_and_can_be_read(scheme, visit):
    page = visit(color_scheme=scheme)
    paper, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (luminance(paper) > luminance(ink)) == (scheme == "light")
    assert contrast(paper, ink) >= 7
    colour = lambda name: page.evaluate(  # noqa: E731
        """name => {
            const probe = document.createElement("span");
            probe.className = name;
            document.querySelector("figcaption").append(probe);
            return getComputedStyle(probe).color;
        }""",
        name,
    )
    card = page.evaluate("getComputedStyle(document.querySelector('figure')).backgroundColor")
    assert min(contrast(card, colour(name)) for name in ("soft", "good", "bad", "warn", "move")) >= 4.5


def test_it_reads_well_without_eyes(visit):
    page = visit()
    tree = page.locator("body").aria_snapshot()
    for wanted in (
        "- banner:",
        "- main:",
        "- contentinfo:",
        "- search:",
        'heading "Version',
        'heading "What happened, and why" [level=2]',
        "by day",
        'navigation "Kinds of events"',
    ):
        assert wanted in tree
    levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(one => +one.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_it_says_the_same_without_scripts(visit, past):
    page = visit(java_script_enabled=False)
    assert page.locator("h1").inner_text().startswith("Version")
    assert page.locator("#timeline li").count() == len(told(past))
    page.click("a[rel=next]")
    assert page.locator("#timeline li").count() > 0
    page.click("text=Back to the newest")


def test_a_runs_log_grows_while_one_looks(visit, past):
    run = past.waiting("to be watched")
    past.prints(run, "epoch 1\n")
    page = visit(f"/runs/{run}")
    assert page.inner_text("[data-log] pre") == "epoch 1\n"
    past.prints(run, "<b>epoch 2</b>\n")
    until(page, "document.querySelector('[data-log] pre').textContent === 'epoch 1\\n<b>epoch 2</b>\\n'")


def test_nothing_moves_for_whoever_asked_for_that(visit, past):
    page = visit(reduced_motion="reduce")
    page.wait_for_selector(LIVE)
    (number,) = past.events(1, reason="quietly")
    page.wait_for_selector(f"#event-{number}.fresh")
    assert page.eval_on_selector(f"#event-{number}", "item => getComputedStyle(item).animationName") == "none"
