"""Real servers in tests: who has none skips with the reason; CI (TRUELINE_REAL=1) has them all, and fails."""

from __future__ import annotations

import os

import pytest


def need(present: object, what: str) -> None:
    """Go on only when a real thing is there; `what` names it and says how to get it."""
    if present:
        return
    if os.environ.get("TRUELINE_REAL") == "1":
        pytest.fail(f"{what} is not here, and TRUELINE_REAL=1 says that it has to be")
    pytest.skip(f"{what} is not here")
