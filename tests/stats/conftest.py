"""What the proofs share: how many false alarms are too many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scipy.stats import binom


@pytest.fixture
def exceeds() -> Callable[[int, int, float], bool]:
    """Whether so many rejections in so many runs are more than a rate explains, at 99.9 % confidence."""

    def check(rejections: int, runs: int, rate: float) -> bool:
        return bool(binom.sf(rejections - 1, runs, rate) < 0.001)

    return check
