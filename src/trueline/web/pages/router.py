"""One table of pages, and the one place where somebody is let in to see them.

Nothing but style and script is shown to a stranger, and every path looks the same to one: the page that tells how to
get in. What is refused or missing is a page with the error's sentence.
"""

from __future__ import annotations

import logging
from urllib.parse import parse_qs

from trueline.errors import InvalidInput, NotAllowed, NotAuthenticated, NotFound, TruelineError
from trueline.security.tokens import Guard, Principal
from trueline.web.api.calls import ApiRequest, ApiResponse, Permission
from trueline.web.api.router import pattern
from trueline.web.api.services import Services
from trueline.web.door import Door
from trueline.web.pages import gates, incidents, links, overview, predictions, releases, rendering, runs, versions
from trueline.web.pages.calls import Look, Page

log = logging.getLogger("trueline.api")

ENTRANCE = "/enter"
_LONGEST_TOKEN = 512


def find(look: Look) -> ApiResponse:
    """Whatever somebody typed into the field for ids."""
    wanted = look.query.get("id", "").strip()
    return rendering.see_other(links.find(wanted) if wanted else "/")


PAGES: tuple[Page, ...] = (
    Page("/", overview.show),
    Page("/runs/{id}", runs.show),
    Page("/versions/{number:int}", versions.show),
    Page("/gates/{id}", gates.show),
    Page("/releases/{id}", releases.show),
    Page("/incidents/{id}", incidents.show),
    Page("/predictions/{id}", predictions.show),
    Page("/find", find),
)


def answer(request: ApiRequest, services: Services, guard: Guard, door: Door) -> ApiResponse:
    """Answer a browser. Never raises."""
    try:
        return _answer(request, services, guard, door)
    except NotAuthenticated as refused:
        return _closed(request, str(refused) if request.path == ENTRANCE else None)
    except TruelineError as problem:
        return rendering.html("problem.html", problem.status, sentence=str(problem))
    except Exception:
        log.exception("%s %s failed unexpectedly", request.method, request.path)
        sentence = "something unexpected happened inside trueline; the server's log says what"
        return rendering.html("problem.html", 500, sentence=sentence)


def misdirected() -> ApiResponse:
    """The answer to a browser that asked for somebody else: a name in a foreign DNS that leads here."""
    sentence = "this server does not go by that name; open it as http://127.0.0.1 or http://localhost with its port"
    return rendering.html("problem.html", 421, sentence=sentence)


def _answer(request: ApiRequest, services: Services, guard: Guard, door: Door) -> ApiResponse:
    if request.path.startswith("/static/"):
        found = rendering.static(request.path.removeprefix("/static/"))
        if found is not None:
            return found
    if request.path == ENTRANCE:
        return _enter(request, guard, door)
    principal = guard.identify(None, request.session)
    if not principal.may(Permission.read):
        raise NotAllowed(f"{principal.name} may not look at pages")
    if request.method not in {"GET", "HEAD"}:
        raise InvalidInput("pages are for looking; what changes something is done with `trueline` or the API")
    for page in PAGES:
        matched = pattern(page.template).fullmatch(request.path)
        if matched is not None:
            return page.show(Look(services, matched.groupdict(), request.query))
    raise NotFound(f"there is no page {request.path}")


def _enter(request: ApiRequest, guard: Guard, door: Door) -> ApiResponse:
    """A ticket in the address or a token in the form becomes a session, and the address is clean again."""
    if request.method == "POST":
        fields = parse_qs(request.body.decode("ascii", errors="replace"), max_num_fields=4)
        token = fields.get("token", [""])[0].strip()[:_LONGEST_TOKEN]
        principal: Principal = guard.identify(f"Bearer {token}")
        if not principal.may(Permission.read):
            raise NotAuthenticated(f"the token of {principal.name} does not allow to read")
        return rendering.see_other(_inside(fields.get("next", ["/"])[0]), {"Set-Cookie": door.cookie()})
    if door.sessions.admits(request.query.get("ticket", "")):
        return rendering.see_other("/", {"Set-Cookie": door.cookie()})
    guard.identify(None, request.session)  # a link that was used before leads whoever is in to the first page
    return rendering.see_other("/")


def _inside(where: str) -> str:
    r"""A path of ours, wherever a form would have led to.

    >>> _inside("/runs/run-1"), _inside("//evil"), _inside("https://evil"), _inside("/\\evil")
    ('/runs/run-1', '/', '/', '/')
    """
    ours = where.startswith("/") and not where.startswith("//") and "\\" not in where and where.isprintable()
    return where if ours else "/"


def _closed(request: ApiRequest, said: str | None) -> ApiResponse:
    """What a stranger sees. A ticket that is too old is said to be; a wrong token too."""
    if said is not None and request.method != "POST":
        said = "this link has had its day; a new one is made with: trueline open"
    wanted = "/" if request.path == ENTRANCE else request.path
    return rendering.html("closed.html", 401, {"WWW-Authenticate": 'Bearer realm="trueline"'}, said=said, wanted=wanted)
