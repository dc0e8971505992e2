"""The examples in the pages' and streams' own words hold."""

import doctest
import importlib

import pytest

MODULES = (
    "security.sessions",
    "web.door",
    "web.svg",
    "web.pages.links",
    "web.pages.rendering",
    "web.pages.router",
    "web.pages.story",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    found = doctest.testmod(importlib.import_module(f"trueline.{name}"))
    assert found.failed == 0
