"""What may be told as the truth: a value of the target as it is declared."""

from __future__ import annotations

import pytest

from trueline.domain.contracts import Column, Kind
from trueline.domain.labels import compile_label
from trueline.errors import InvalidInput

LATE = Column("late", Kind.integer, nullable=True, minimum=0, maximum=1)
NAMED = Column("late", Kind.string, categories=("on time", "late"))
FLAG = Column("late", Kind.boolean)
MINUTES = Column("minutes", Kind.float32, nullable=True, minimum=0, maximum=90)
STARS = Column("stars", Kind.integer, minimum=1, maximum=5, strict=True)


@pytest.mark.parametrize(
    ("target", "classes", "told", "kept"),
    [
        (LATE, True, 1, 1.0),
        (LATE, True, 0.0, 0.0),
        (LATE, True, True, 1.0),
        (FLAG, True, False, 0.0),
        (FLAG, True, 1, 1.0),
        (NAMED, True, "late", 0.0),
        (NAMED, True, "on time", 1.0),
        (NAMED, True, 1, 1.0),
        (Column("late", Kind.string), True, 1, 1.0),
        (Column("code", Kind.string, categories=("1", "0")), True, "1", 1.0),
        (MINUTES, False, 12.5, 12.5),
        (MINUTES, False, 12, 12.0),
        (MINUTES, False, 400.0, 400.0),
        (STARS, False, 4, 4.0),
        (STARS, False, 4.0, 4.0),
    ],
)
def test_a_value_that_the_target_may_have_is_kept_as_a_number(target, classes, told, kept):
    found = compile_label(target, classes=classes)(told)
    assert (found, type(found)) == (kept, float)


@pytest.mark.parametrize(
    ("target", "classes", "told", "words"),
    [
        (LATE, True, 7, "expected 0 or 1, got 7"),
        (LATE, True, 0.7, "expected 0 or 1, got 0.7"),
        (LATE, True, "late", "expected 0 or 1, got string"),
        (LATE, True, -1, "expected 0 or 1, got -1"),
        (FLAG, True, 2, "expected true or false, got 2"),
        (NAMED, True, "maybe", "expected 'late' or 'on time' (or 0 or 1), got 'maybe'"),
        (NAMED, True, 2, "expected 'late' or 'on time' (or 0 or 1), got 2"),
        (
            Column("late", Kind.string, categories=("a", "b", "c")),
            True,
            "a",
            "expected 0 or 1 (the contract does not have its two classes as categories), got string",
        ),
        (
            Column("late", Kind.string, categories=("a", "b"), personal=True),
            True,
            "c",
            "expected one of its two classes (or 0 or 1), got another value (personal, not shown)",
        ),
        (MINUTES, False, "12", "expected float32, got string"),
        (MINUTES, False, True, "expected float32, got boolean"),
        (MINUTES, False, 1e39, "expected float32, got a number too large for it"),
        (STARS, False, 4.5, "expected integer, got a fraction"),
        (STARS, False, 6, "expected at most 5, got 6"),
    ],
)
def test_any_other_value_is_refused_with_what_was_expected(target, classes, told, words):
    with pytest.raises(InvalidInput) as refused:
        compile_label(target, classes=classes)(told)
    assert str(refused.value) == words
