"""What the pages of single things share: facts, tables, evidence, the chain of reasons, and what happened to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueline.errors import NotFound
from trueline.web.api.calls import ApiResponse, view, views
from trueline.web.api.events import EventView
from trueline.web.api.why import WhyView
from trueline.web.pages.calls import Look
from trueline.web.pages.story import telling

EVENTS = 100
_TOLD_ELSEWHERE = ("event", "suspect")
"""Links of a chain that a page shows in a list or table of their own."""


@dataclass(frozen=True)
class Fact:
    name: str
    value: Any
    href: Any = None

    @property
    def known(self) -> bool:
        return self.value not in (None, {}, "")


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold figures."""
        return [isinstance(cell, int | float) for cell in self.rows[0]]


def show_thing(
    look: Look,
    *,
    title: str,
    name: str | None = None,
    state: str,
    sentence: str,
    facts: Sequence[Fact],
    ref: str,
    why: str,
    tables: Sequence[Table] = (),
    evidence: Mapping[str, Any] | None = None,
    template: str = "thing.html",
    **more: Any,
) -> ApiResponse:
    """The page of one thing, with whatever `trueline why` tells of it; a template of its own may show `more`."""
    found = look.services.timeline(before=None, limit=EVENTS, kinds=None, ref=ref)
    events = views(found, EventView)
    return look.render(
        template,
        title=title,
        name=name,
        state=state,
        sentence=sentence,
        facts=[fact for fact in facts if fact.known],
        tables=tables,
        evidence=evidence,
        chain=_chain(look, why, ref),
        events=[(event, telling(event)) for event in reversed(events)],
        **more,
    )


def _chain(look: Look, why: str, ref: str) -> list[Any]:
    """The links of `why`, without the thing itself and what the page says anyway."""
    try:
        links = view(look.services.why(why), WhyView).links
    except NotFound:
        return []
    own = {ref, ref.rsplit("/", maxsplit=1)[-1]}
    return [link for link in links if link.ref not in own and link.noun not in _TOLD_ELSEWHERE]
