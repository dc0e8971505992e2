"""What a page is: a pattern of paths, and a function from services and a request to an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trueline.web.api.calls import ApiResponse, view
from trueline.web.api.services import Services
from trueline.web.api.status import StatusView
from trueline.web.pages import rendering


@dataclass(frozen=True)
class Look:
    """Somebody who may read looks at a page."""

    services: Services
    path: Mapping[str, str]
    query: Mapping[str, str]

    @cached_property
    def status(self) -> StatusView:
        return view(self.services.status(), StatusView)

    def render(self, template: str, /, **values: Any) -> ApiResponse:
        """A page with the frame that every page has."""
        return rendering.html(template, status=self.status, **values)


@dataclass(frozen=True)
class Page:
    template: str  # "/runs/{id}" or "/versions/{number:int}"
    show: Callable[[Look], ApiResponse]
