"""What a packaged model takes and gives: the contract's columns it reads, in order, and one number per row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trueline.domain.contracts import Column, column_from_dict, column_to_dict

REGRESSION = "regression"
CLASSIFICATION = "classification"


@dataclass(frozen=True)
class Signature:
    """Inputs are in the estimator's own order; the output is a value, or the probability of the positive class.

    `allowed` are the names that a request may bring, inputs and others; None when any may come along. `target` is what
    labels are values of. Neither is encoded here: the contract, which says them, is kept beside the signature.
    """

    inputs: tuple[Column, ...]
    output: str
    task: str
    allowed: frozenset[str] | None = None
    target: Column | None = None  # None: the contract of the model is not known

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.inputs)


def encode(signature: Signature) -> dict[str, Any]:
    """As JSON-ready values."""
    return {
        "inputs": [column_to_dict(column) for column in signature.inputs],
        "output": signature.output,
        "task": signature.task,
    }


def decode(fields: Mapping[str, Any]) -> Signature:
    """The inverse of `encode`."""
    return Signature(tuple(column_from_dict(one) for one in fields["inputs"]), fields["output"], fields["task"])
