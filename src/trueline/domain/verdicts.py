"""The four answers of a judgement. Too little evidence is an answer of its own, never a quiet pass."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    passed = "pass"
    failed = "fail"
    inconclusive = "inconclusive"
    error = "error"
