"""What a target may hold, before anything is trained on it."""

from __future__ import annotations

import polars as pl
import pytest

from trueline.domain.contracts import Column, Kind, Role
from trueline.errors import InvalidData
from trueline.pipelines.preparation import check_classes


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Kind.integer, [0, 1, 1]),
        (Kind.float64, [1.0, 0.0]),
        (Kind.integer, [1, 1]),
        (Kind.boolean, [True, False]),
        (Kind.string, ["no", "yes"]),
    ],
)
def test_two_classes_have_many_forms(kind, values):
    check_classes(Column("won", kind, role=Role.target), pl.Series(values))


@pytest.mark.parametrize(("kind", "values", "said"), [(Kind.integer, [1, 2], "2"), (Kind.float32, [-1.0, 1.0], "-1")])
def test_other_numbers_are_refused_with_what_to_write(kind, values, said):
    with pytest.raises(InvalidData, match=f"the target 'won' has the value {said}; a classification's are 0 and 1"):
        check_classes(Column("won", kind, role=Role.target), pl.Series(values))
