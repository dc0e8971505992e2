"""A browser without a window: requests in this process, a jar for cookies, and the page as its elements."""

from __future__ import annotations

import asyncio
from html.parser import HTMLParser

import httpx

from trueline.security import tokens
from trueline.security.sessions import Sessions
from trueline.web.door import Door
from trueline.web.server import Api, application

TOKEN = "a-token-of-enough-characters"
VOID = {"meta", "link", "input", "img", "br", "path", "rect", "line", "circle", "polyline"}


class Elements(HTMLParser):
    """Every element with its attributes and the text inside it; unbalanced markup is an error."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self._open = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.found.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.found.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def of(self, tag, **wanted):
        named = {name.strip("_").replace("_", "-"): value for name, value in wanted.items()}
        return [e for e in self.found if e["tag"] == tag and all(e.get(n) == v for n, v in named.items())]

    @property
    def links(self):
        return [e["href"] for e in self.of("a")]


class Browser:
    def __init__(self, services, *, host="127.0.0.1:7077"):
        self.sessions = Sessions(TOKEN)
        self.host = host
        self._app = application(Api(services, tokens.guard(TOKEN), Door(self.sessions, "127.0.0.1")))
        self.cookies = httpx.Cookies()

    def log_in(self):
        self.cookies.set(self.sessions.cookie, self.sessions.session(), domain="127.0.0.1")
        return self

    def send(self, method, path, **options):
        async def exchange():
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(
                transport=transport, base_url=f"http://{self.host}", cookies=self.cookies
            ) as client:
                return await client.request(method, path, **options)

        answer = asyncio.run(exchange())
        self.cookies.update(answer.cookies)
        return answer

    def get(self, path, **options):
        return self.send("GET", path, **options)

    def page(self, path):
        """A page that must be there, as its elements."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return Elements(answer.text)
