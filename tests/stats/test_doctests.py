from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import trueline.stats

MODULES = [f"trueline.stats.{module.name}" for module in pkgutil.iter_modules(trueline.stats.__path__)]


@pytest.mark.parametrize("name", [*MODULES, "trueline.monitoring.decide"])
def test_examples_in_docstrings_run(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
