"""Who is let in to the pages, and that being in changes nothing."""

import pytest
from browsing import TOKEN, Browser, Elements

from trueline.web.api.router import ROUTES


@pytest.fixture
def stranger(services):
    return Browser(services)


@pytest.mark.parametrize("path", ["/", "/runs/run-1", "/nothing", "/static/nothing", "/find?id=1", "/enter"])
def test_a_stranger_sees_how_to_get_in_wherever_he_looks(path, stranger):
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Elements(answer.text)
    assert page.of("pre")[0]["text"] == "trueline open"
    assert page.of("form")[0]["action"] == "/enter"
    assert "example" not in answer.text


def test_a_ticket_becomes_a_cookie_and_a_clean_address(stranger):
    answer = stranger.get(f"/enter?ticket={stranger.sessions.ticket()}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/" in cookie
    assert TOKEN not in cookie
    assert stranger.get("/").status_code == 200


def test_a_used_link_still_leads_in_whoever_is_in(browser):
    assert browser.get("/enter?ticket=1.x").status_code == 303


def test_an_old_ticket_says_so(stranger):
    answer = stranger.get("/enter?ticket=1.abc")
    assert answer.status_code == 401
    assert "trueline open" in Elements(answer.text).of("p", role="alert")[0]["text"]
    assert "set-cookie" not in answer.headers


def test_a_token_in_the_form_leads_to_the_page_that_was_wanted(stranger):
    wanted = Elements(stranger.get("/runs/run-1").text).of("input", name="next")[0]["value"]
    answer = stranger.send("POST", "/enter", data={"token": TOKEN, "next": wanted})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/run-1")
    assert stranger.get("/").status_code == 200


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:1"])
def test_a_form_leads_nowhere_else(elsewhere, stranger):
    answer = stranger.send("POST", "/enter", data={"token": TOKEN, "next": elsewhere})
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize("token", ["", "wrong-token-of-enough", "ünï", "x" * 5000])
def test_a_wrong_token_is_refused_in_words(token, stranger):
    answer = stranger.send("POST", "/enter", data={"token": token})
    assert answer.status_code == 401
    assert Elements(answer.text).of("p", role="alert")
    assert "set-cookie" not in answer.headers


def test_the_cookie_reads_the_api_too(browser):
    assert browser.get("/api/v1/status").json()["project"] == "example"


@pytest.mark.parametrize("route", [r for r in ROUTES if r.method != "GET"], ids=lambda route: route.template)
def test_the_cookie_changes_nothing(route, browser, services):
    answer = browser.send(route.method, route.template.replace("{number:int}", "1").replace("{id}", "x"), json={})
    assert answer.status_code == 403
    assert not services.shelf_events


@pytest.mark.parametrize("path", ["/", "/runs/run-1", "/find"])
def test_pages_are_for_looking(path, browser):
    assert browser.send("POST", path, data={"a": "b"}).status_code == 400


def test_the_cookie_counts_under_no_foreign_name(services):
    rebound = Browser(services, host="evil.example:7077")
    rebound.cookies.set(rebound.sessions.cookie, rebound.sessions.session())
    assert rebound.get("/").status_code == 421
    assert rebound.get("/api/v1/status").status_code == 401
    assert rebound.get("/livez").status_code == 200
    assert rebound.get("/api/v1/status", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
        ("same-site", "cors", 401),  # another port of this machine
        ("same-site", "no-cors", 401),
        ("cross-site", "cors", 401),
        ("cross-site", "navigate", 200),  # a link that somebody followed; SameSite=Strict decides about the cookie
    ],
)
def test_the_cookie_counts_from_these_pages_alone(site, mode, status, browser):
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    assert browser.get("/api/v1/status", headers=headers).status_code == status


def test_an_authorization_header_is_the_apis_business(stranger):
    answer = stranger.get("/", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_every_page_forbids_what_it_does_not_need(browser, stranger):
    for answer in (browser.get("/"), browser.get("/nothing"), stranger.get("/")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        page = Elements(answer.text)
        assert all(script["src"].startswith("/static/") and not script["text"] for script in page.of("script"))
        assert not page.of("style")
        assert not [element for element in page.found if any(name.startswith(("on", "style")) for name in element)]


def test_style_and_script_are_for_everybody_and_for_ever(stranger):
    page = Elements(stranger.get("/").text)
    sheet = stranger.get(page.of("link", rel="stylesheet")[0]["href"])
    assert (sheet.status_code, sheet.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in sheet.headers["cache-control"]
    assert stranger.get("/static/../server.py").status_code == 401
