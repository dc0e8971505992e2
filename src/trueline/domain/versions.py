"""A model version: a packaged model and what the gate said of it. Which one serves is the route table's matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from trueline.domain.machines import Machine


class VersionState(StrEnum):
    candidate = "candidate"
    approved = "approved"
    rejected = "rejected"


class VersionEvent(StrEnum):
    approve = "approve"
    reject = "reject"
    waive = "waive"  # a person overrides the gate, with a reason that is kept


VERSIONS: Machine[VersionState, VersionEvent] = Machine[VersionState, VersionEvent](
    noun="version",
    initial=VersionState.candidate,
    table={
        VersionState.candidate: {
            VersionEvent.approve: VersionState.approved,
            VersionEvent.reject: VersionState.rejected,
            VersionEvent.waive: VersionState.approved,
        },
        VersionState.approved: {VersionEvent.reject: VersionState.rejected},
        VersionState.rejected: {VersionEvent.waive: VersionState.approved, VersionEvent.approve: VersionState.approved},
    },
)


@dataclass(frozen=True)
class Version:
    project: str
    number: int
    run: str
    state: VersionState
    digest: str  # of the packaged folder
    executor: str
    task: str
    parity: dict[str, Any]
    metrics: dict[str, float]
    summary: dict[str, Any]  # of the training rows: bins, presence, baseline
    trained_from: datetime
    trained_to: datetime  # no row at or after it was trained on
    purpose: str
    created_at: datetime
    waiting: str | None = None  # whose approvals its release waits for


def speed_told(parity: Mapping[str, Any]) -> str | None:
    """How fast the served model is beside the fitted one, measured when it was packaged; None when it was not."""
    speed = parity.get("speed")
    if not speed:
        return None
    row, batch, own, own_batch = (
        f"{speed[name]:.3g}" for name in ("row_us", "batch_row_us", "native_row_us", "native_batch_row_us")
    )
    return f"{row} µs a row alone, {batch} in a batch of 32 (the fitted estimator: {own} and {own_batch})"


def parity_told(parity: Mapping[str, Any]) -> str | None:
    """The worst difference of the proof, and on how many rows; None when there was none."""
    if "worst" not in parity or "rows" not in parity:
        return None
    return f"within {parity['worst']:.2g} on {parity['rows']:,} rows, edges included"
