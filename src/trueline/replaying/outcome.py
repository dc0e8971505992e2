"""What a replay came to: the loss of what was served beside that of the first model, kept for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from trueline.gates import scoring
from trueline.packaging.executors import load
from trueline.replaying.living import Living
from trueline.web.api.incidents import IncidentView

LOSS = {"regression": "mean absolute error", "classification": "Brier loss"}


@dataclass(frozen=True)
class Month:
    name: str
    rows: int
    frozen: float
    served: float
    promotions: int
    incidents: int


@dataclass(frozen=True)
class Outcome:
    task: str
    months: tuple[Month, ...]
    frozen: float
    served: float
    promotions: int
    incidents: int
    refused: int
    first_retraining: dict[str, Any] | None  # the first promotion of a model that the loop trained by itself
    seconds: float

    @property
    def loss(self) -> str:
        return LOSS[self.task]


def account(
    living: Living, model: Path, digest: str, task: str, incidents: list[IncidentView], seconds: float
) -> Outcome:
    """Score every labelled row twice: as it was served, and as the first model would have answered."""
    rows = living.history.lived
    target = living.history.labels(rows)
    first = scoring.row_losses(task, _frozen(model, digest, rows), target)
    served = scoring.row_losses(task, np.asarray(living.answers, dtype=np.float64), target)
    known = np.isfinite(target) & np.isfinite(served)
    names = rows[living.history.time].dt.strftime("%Y-%m").to_numpy()
    promoted = [event for event in living.events if event.kind == "release.promote"]
    months = []
    for name in dict.fromkeys(names[known].tolist()):
        mine = known & (names == name)
        months.append(
            Month(
                str(name),
                int(mine.sum()),
                float(first[mine].mean()),
                float(served[mine].mean()),
                sum(f"{event.at:%Y-%m}" == name for event in promoted),
                sum(f"{one.opened_at:%Y-%m}" == name for one in incidents),
            )
        )
    return Outcome(
        task,
        tuple(months),
        _mean(first, known),
        _mean(served, known),
        len(promoted),
        len(incidents),
        len(living.refused),
        _first_retraining(living, promoted),
        seconds,
    )


def _frozen(model: Path, digest: str, rows: pl.DataFrame) -> npt.NDArray[np.float64]:
    return scoring.predict(load(model, digest), rows)


def _mean(losses: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]) -> float:
    return float(losses[known].mean()) if known.any() else float("nan")


def _first_retraining(living: Living, promoted: list[Any]) -> dict[str, Any] | None:
    """The first model after the one that a person asked for."""
    later = [event for event in promoted if event.at > living.history.begins + living.tick]
    if not later:
        return None
    event, at = later[0], later[0].at
    return {"at": _day(at), "after_days": (at - living.history.begins).days, "reason": event.reason}


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
