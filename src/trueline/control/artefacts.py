"""What a run leaves behind, in this machine's state folder and, where the project has one, in its storage.

A run's folder is on the machine that trained. Its model is kept in the storage, under its digest, before the row that
says the run succeeded: a version that is known can be had. Other machines bring it to the same place of their own
state folder when they first need it. What the run said (log, what it told the tracking store) is kept under its name.
"""

from __future__ import annotations

from pathlib import Path

from trueline.control import endpoints
from trueline.control.context import Context
from trueline.domain.versions import Version
from trueline.storage import trees

MODEL = "model"
HELD_OUT = "held_out.arrow"
SPEC = "spec.json"
SAID = "runs"
"""Where the storage keeps what runs said."""
HEAVY = frozenset({"rows.arrow", HELD_OUT, MODEL})
"""In a run's folder: kept in another way, or made from the dataset at will."""


def keep(context: Context, folder: Path, digest: str) -> None:
    """Keep the model in a run's folder, and what belongs to it, where there is a storage but the state folder.

    Raises:
        Unavailable: the storage cannot be reached. Asking again is harmless.
    """
    objects = context.storage.objects
    if objects is None:
        return
    if (folder / HELD_OUT).is_file():
        trees.keep_beside(objects, digest, folder / HELD_OUT)
    trees.keep_tree(objects, folder / MODEL, digest)


def keep_said(context: Context, run_id: str) -> None:
    """Keep what a run said, for people and for a tracking store that another machine tells."""
    objects, folder = context.storage.objects, context.folder.run(run_id)
    if objects is None:
        return
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if name.parts[0] not in HEAVY and not name.name.startswith("."):
            objects.put(f"{SAID}/{run_id}/{name.as_posix()}", path)


def bring_said(context: Context, run_id: str) -> None:
    """Have what a run said in its folder here, if anything was kept; the spec comes last, and says that all is there."""
    objects, folder = context.storage.objects, context.folder.run(run_id)
    if objects is None or (folder / SPEC).exists():
        return
    prefix = f"{SAID}/{run_id}"
    for key in sorted(objects.list(prefix), key=lambda key: key == f"{prefix}/{SPEC}"):
        trees.fetch(objects, key, folder / key.removeprefix(f"{prefix}/"))


def model(context: Context, version: Version) -> Path:
    """The folder of a version's model on this machine, brought here if need be.

    Raises:
        NotFound: the storage does not have it.
        Unavailable: the storage cannot be reached.
    """
    folder = Path(endpoints.model_folder(context.folder, version))
    if context.storage.objects is not None and not folder.exists():
        trees.fetch_tree(context.storage.objects, version.digest, folder)
    return folder


def held_out(context: Context, version: Version) -> Path | None:
    """The rows held out when a version was trained, brought here if need be; None when none were."""
    return _beside(context, context.folder.run(version.run) / HELD_OUT, version.digest)


def bring(context: Context, folder: Path, digest: str) -> None:
    """Have the model of this digest, and the rows held out for it, in a run's folder; what is there is left as it is."""
    if context.storage.objects is not None and not (folder / MODEL).exists():
        _beside(context, folder / HELD_OUT, digest)
        trees.fetch_tree(context.storage.objects, digest, folder / MODEL)


def _beside(context: Context, path: Path, digest: str) -> Path | None:
    objects = context.storage.objects
    if path.exists() or (objects is not None and trees.fetch_beside(objects, digest, path)):
        return path
    return None
