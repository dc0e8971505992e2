"""What the router lets in, and how it says no."""

import re

import pytest

from trueline import errors
from trueline.errors import TruelineError
from trueline.security.tokens import Principal, TokenGuard
from trueline.web.api import problems
from trueline.web.api.calls import ApiRequest, Permission
from trueline.web.api.router import ROUTES, dispatch

PUBLIC = {"/livez", "/readyz", "/api/v1/openapi.json"}


def sample(route):
    """A path that the route's template matches."""
    return re.sub(r"\{\w+\}", "x", re.sub(r"\{\w+:int\}", "1", route.template))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.template}")
def test_every_route_needs_a_permission_and_without_a_token_nothing_but_probes_answers(route, ask):
    assert isinstance(route.permission, Permission)
    status, answer = ask(route.method, sample(route), token=None)
    if route.template in PUBLIC:
        assert status == 200
    else:
        assert (status, answer["type"]) == (401, "urn:trueline:problem:not-authenticated")
        assert ask.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/", "/api/v1/nothing", "/api/v1/runs/a/b", "/livez/x"])
def test_without_a_token_nobody_learns_which_paths_exist(path, ask):
    assert ask("GET", path, token=None)[0] == 401
    assert ask("GET", path)[0] == 404


@pytest.mark.parametrize("wrong", ["another-token-of-enough-characters", "", "ünï", "a-token-of-enough-character"])
def test_a_wrong_token_is_refused(wrong, ask):
    assert ask("GET", "/api/v1/status", token=wrong)[0] == 401


def test_a_token_may_carry_fewer_permissions(services):
    guard = TokenGuard({"reader-token-0123456789": Principal("reader", frozenset({"read"}))})
    authorization = "Bearer reader-token-0123456789"
    reading = ApiRequest("GET", "/api/v1/status", authorization=authorization)
    assert dispatch(reading, services, guard).status == 200
    training = ApiRequest("POST", "/api/v1/runs", body=b"{}", authorization=authorization)
    refused = dispatch(training, services, guard)
    assert refused.status == 403
    assert b"reader may not do this: it needs the permission 'train'" in refused.body
    assert not services.shelf_runs


def test_a_wrong_method_names_the_right_ones(ask):
    status, answer = ask("DELETE", "/api/v1/runs")
    assert (status, ask.headers["Allow"]) == (405, "GET, POST")
    assert answer["detail"] == "/api/v1/runs answers GET, POST, not DELETE"


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        (b"{", 400, "is not JSON"),
        (b"\xff\xfe", 400, "is not JSON"),
        (b"[]", 400, "Expected `object`"),
        (b'{"release": "yes"}', 400, "$.release"),
        (b'{"fitt": "x"}', 400, "fitt"),
        (b"null", 400, "Expected `object`"),
    ],
)
def test_a_body_that_is_not_what_the_route_takes_gets_a_sentence(raw, status, said, ask, services):
    found, answer = ask("POST", "/api/v1/runs", raw=raw)
    assert found == status
    assert said in answer["detail"]
    assert ask.content_type == "application/problem+json"
    assert not services.shelf_runs


def test_another_content_type_is_refused(ask):
    assert ask("POST", "/api/v1/runs", {}, content_type="text/csv")[0] == 415
    assert ask("POST", "/api/v1/runs", {}, content_type="application/json; charset=utf-8")[0] == 201


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        ("/api/v1/runs", {"limit": "many"}, "$.limit"),
        ("/api/v1/runs", {"limit": "0"}, "between 1 and 1000"),
        ("/api/v1/runs", {"limit": "1001"}, "between 1 and 1000"),
        ("/api/v1/runs", {"page": "2"}, "page"),
        ("/api/v1/events", {"after": "x"}, "$.after"),
        ("/api/v1/status", {"verbose": "1"}, "takes no parameters"),
    ],
)
def test_wrong_parameters_get_a_sentence(path, query, said, ask):
    status, answer = ask("GET", path, **query)
    assert status == 400
    assert said in answer["detail"]


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "9" * 30, "²"])
def test_a_version_that_is_not_a_number_does_not_exist(number, ask):
    assert ask("GET", f"/api/v1/versions/{number}")[0] == 404


def test_a_defect_is_logged_and_tells_no_internals(ask, services, monkeypatch, caplog):
    def broken():
        raise RuntimeError("secret detail")

    monkeypatch.setattr(services, "status", broken)
    status, answer = ask("GET", "/api/v1/status")
    assert (status, "secret" in str(answer)) == (500, False)
    assert "secret detail" in caplog.text


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TruelineError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_crosses_the_wire_as_itself(kind):
    back = problems.as_error(problems.of(kind("what happened")))
    assert (type(back), str(back), back.status) == (kind, "what happened", kind.status)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_service_raises_becomes_its_status(kind, ask, services, monkeypatch):
    def refuse():
        raise kind("because")

    monkeypatch.setattr(services, "status", refuse)
    status, answer = ask("GET", "/api/v1/status")
    assert (status, answer["status"], answer["detail"]) == (kind.status, kind.status, "because")


def test_a_problem_of_an_unknown_type_keeps_its_sentence_and_status():
    strange = problems.Problem(type="https://elsewhere", title="x", status=404, detail="gone")
    assert type(problems.as_error(strange)) is errors.NotFound
    assert str(problems.as_error(problems.Problem(title="x", status=418, detail="tea"))) == "tea"
