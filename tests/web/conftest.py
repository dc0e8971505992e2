import json

import pytest

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
