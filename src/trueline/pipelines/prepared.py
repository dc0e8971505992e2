"""What a training has been prepared with; kept in its folder, so that a run which goes on trains on what it began with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from trueline.control.context import Context
from trueline.domain.runs import Run
from trueline.pipelines.closure import closure
from trueline.pipelines.environment import environment
from trueline.pipelines.key import key_parts
from trueline.pipelines.spec import SPEC, TrainSpec, read_spec

SEED = 0
THREADS = 1


@dataclass(frozen=True)
class Prepared:
    spec: TrainSpec
    key_parts: dict[str, Any]
    dataset: int
    window_from: datetime
    cut_at: datetime


def again(context: Context, run: Run) -> Prepared | None:
    """What an earlier attempt of this run prepared, if its rows are still what they were; code is looked at anew.

    A run that goes on after a death or a mended step trains on the rows it began with, so what its steps finished stays.
    """
    folder = context.folder.run(run.id)
    if run.key_parts is None or run.dataset is None or not (folder / SPEC).exists():
        return None
    spec, said = read_spec(folder / SPEC), run.key_parts["inputs"]
    for path, digest in ((folder / "rows.arrow", said["rows"]), (folder / "held_out.arrow", said["held_out"])):
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return None
    parts = key_parts(
        code=closure(context.root, run.entry),
        entry=run.entry,
        params=run.params,
        inputs=said,
        environment=environment(THREADS),
        seed=SEED,
    )
    return Prepared(replace(spec, result=None), parts, run.dataset, run.window_from, run.cut_at)
