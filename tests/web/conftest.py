import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # tests are not a package

from browsing import Browser
from past import Past

from trueline.security import tokens
from trueline.web.api.calls import ApiRequest
from trueline.web.api.in_memory import InMemoryServices
from trueline.web.api.router import dispatch

TOKEN = "a-token-of-enough-characters"


@pytest.fixture
def services():
    return InMemoryServices()


@pytest.fixture
def ask(services):
    """Send one request through the router; returns status and decoded body."""

    def send(method, path, body=None, *, token=TOKEN, raw=None, content_type="application/json", **query):
        content = raw if raw is not None else (b"" if body is None else json.dumps(body).encode())
        authorization = None if token is None else f"Bearer {token}"
        request = ApiRequest(method, path, query, content, content_type, authorization)
        answer = dispatch(request, services, tokens.guard(TOKEN))
        send.headers, send.content_type = answer.headers, answer.content_type
        return answer.status, json.loads(answer.body)

    return send


@pytest.fixture
def browser(services):
    """A browser that is let in."""
    return Browser(services).log_in()


def _houses(folder, url=None):
    """A project with real tables that has lived for forty days."""
    lived = Past(folder / "houses", more=f"database: {url}" if url else "")
    lived.champion()
    lived.promise(5.0)
    lived.days(40)
    return lived


@pytest.fixture
def past(database, tmp_path):
    """On SQLite and on PostgreSQL, for this test to add to."""
    lived = _houses(tmp_path, database if isinstance(database, str) else None)
    yield lived
    lived.close()


@pytest.fixture(scope="module")
def houses(request, tmp_path_factory):
    """By database, to look at."""
    opened = {}

    def lived(kind):
        if kind not in opened:
            url = request.getfixturevalue("postgresql").fresh() if kind == "postgresql" else None
            opened[kind] = _houses(tmp_path_factory.mktemp("houses"), url)
        return opened[kind].services()

    yield lived
    for one in opened.values():
        one.close()
