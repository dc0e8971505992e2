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
from trueline.errors import NotFound
from trueline.storage import trees

MODEL = "model"
HELD_OUT = "held_out.arrow"
SPEC = "spec.json"
ATTEMPT = "attempt"
"""Beside what a run said: the fence token of the attempt that said it."""
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


def keep_said(context: Context, run_id: str, fence: int) -> None:
    """Keep what a run said, for people and for a tracking store that another machine tells."""
    objects, folder = context.storage.objects, context.folder.run(run_id)
    if objects is None or not folder.is_dir():
        return
    said = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    draft = folder / f".{ATTEMPT}"
    draft.write_text(str(fence))
    draft.replace(folder / ATTEMPT)  # there is never half of it
    for name in (*sorted(said - {Path(ATTEMPT)}), Path(ATTEMPT)):  # that comes last: it says that all is there
        if name.parts[0] not in HEAVY and not name.name.startswith("."):
            objects.put(f"{SAID}/{run_id}/{name.as_posix()}", folder / name)


def bring_said(context: Context, run_id: str) -> None:
    """Have what a run said last in its folder here, if another machine kept it."""
    objects, folder = context.storage.objects, context.folder.run(run_id)
    if objects is None:
        return
    prefix = f"{SAID}/{run_id}"
    try:
        kept = int(b"".join(objects.read(f"{prefix}/{ATTEMPT}")))
    except NotFound:  # it has not ended, or was kept before attempts were told apart
        kept = 0
    here = int((folder / ATTEMPT).read_text()) if (folder / ATTEMPT).exists() else 0
    if here >= kept and (folder / SPEC).exists():
        return
    last = (f"{prefix}/{SPEC}", f"{prefix}/{ATTEMPT}")
    for key in sorted(objects.list(prefix), key=lambda key: last.index(key) if key in last else -1):
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
