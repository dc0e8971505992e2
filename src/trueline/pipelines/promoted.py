"""The worker's part of a promotion: take a staged model over as a version of this target.

Nothing is trained or packaged again: the folder that was judged elsewhere is the one that serves here, byte for byte.
What is brought up to date is this target's data, on which its own gate will judge. Rows held out of a dataset without
time go along: a gate has no later ones.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from trueline.control import artefacts, gates, runs
from trueline.control.artefacts import HELD_OUT, MODEL
from trueline.control.context import Context
from trueline.control.runs import Trained
from trueline.data.tables import Tables
from trueline.domain.promotions import Origin
from trueline.domain.runs import Run
from trueline.errors import TrainingFailed
from trueline.pipelines import preparation
from trueline.settings import StateFolder
from trueline.storage import trees
from trueline.store import rows


def staged(folder: StateFolder, digest: str) -> Path:
    """Where a model of that digest lies until its run takes it over."""
    return folder.imports / digest.replace(":", "-")


def stage(source: Context, origin: Origin, target: Context) -> Path:
    """Copy a version's model into the target's state folder and storage, whole or not at all; twice is once.

    Raises:
        TrainingFailed: the source's folder is not what its version says.
        Unavailable: one of the storages cannot be reached.
    """
    place = staged(target.folder, origin.digest)
    if not place.exists():
        there = source.folder.run(origin.run)
        artefacts.bring(source, there, origin.digest)
        _verify(there / MODEL, origin.digest)
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        shutil.copytree(there / MODEL, draft / MODEL)
        if (there / HELD_OUT).exists():
            shutil.copy2(there / HELD_OUT, draft / HELD_OUT)
        _verify(draft / MODEL, origin.digest)
        try:
            draft.rename(place)
        except OSError:  # somebody who promotes it at the same moment was first: theirs is the same
            shutil.rmtree(draft, ignore_errors=True)
            if not place.exists():
                raise
    artefacts.keep(target, place, origin.digest)
    return place


def take_over(context: Context, tables: Tables, run: Run, fence: int) -> None:
    """Turn a promotion's run into a version here, and ask this target's gate."""
    origin = Origin.decode(run.origin or {})
    preparation.ingest(context, tables.dataset)
    written = preparation.record(context, tables.dataset)
    folder = context.folder.run(run.id)
    if not folder.exists():
        waiting = staged(context.folder, origin.digest)
        if waiting.exists():
            waiting.rename(folder)
        elif context.storage.objects is None:
            raise TrainingFailed(
                f"the model of version {origin.version} of {origin.target} is not staged in {waiting}; promote it again"
            )
    artefacts.bring(context, folder, origin.digest)  # where it was staged on another machine
    _verify(folder / MODEL, origin.digest)
    artefacts.keep(context, folder, origin.digest)
    with context.store.begin() as tx:
        runs.set_inputs(
            tx,
            run,
            fence,
            dataset=written.number,
            key=run.key or "",
            key_parts={},
            tree=origin.tree or "",
            window_from=origin.trained_from,
            cut_at=origin.trained_to,
        )
        brought = Trained(
            origin.digest,
            origin.executor,
            origin.task,
            dict(origin.parity),
            dict(origin.metrics),
            dict(origin.summary),
        )
        version = runs.succeed(tx, rows.get(tx, Run, run.id), fence, brought, actor=context.actor)
        reason = f"version {origin.version} of {origin.target} is version {version.number} here"
        gates.request(tx, run.project, version.number, actor=run.actor, reason=reason)


def _verify(folder: Path, digest: str) -> None:
    found = trees.digest(folder) if folder.is_dir() else "nothing"
    if found != digest:
        raise TrainingFailed(
            f"{folder} holds {found}, not {digest}: it was changed after it was judged; train and judge it again"
        )
