"""What model servers are told beside the route table, and what they tell: versions they may load, and who had them do so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trueline.audits import LOAD, Note
from trueline.catalogue import Entry
from trueline.control.endpoints import model_folder
from trueline.domain.versions import Version
from trueline.settings import StateFolder
from trueline.store import meta, rows, tables
from trueline.store.engine import Tx

OFFERED = 200
"""How many of the newest versions a server can be asked to load."""


def registered(tx: Tx, project: str, folder: StateFolder) -> list[Entry]:
    """The newest versions, newest first."""
    found = rows.find(tx, Version, tables.versions.c.project == project, newest=True, limit=OFFERED)
    return [
        Entry(one.number, str(model_folder(folder, one).relative_to(folder.root)), one.digest, str(one.state))
        for one in found
    ]


def import_notes(tx: Tx, project: str, notes: Sequence[tuple[str, Note]]) -> None:
    """Make events of what servers were asked to do. A note that is known (we died before removing it) makes none."""
    key = f"audits/{project}"
    known = frozenset((meta.get(tx, key) or "").split())
    for name, note in notes:
        if name in known:
            continue
        ref = f"{project}/v{note.version}"
        told: dict[str, Any] = {"project": project, "actor": note.actor, "detail": {"server": note.replica}}
        if note.deed == LOAD:
            reason = f"version {note.version} was loaded on the model server; it is not routed"
            tx.record("version.load", ref, reason=reason, **told)
        else:
            reason = f"version {note.version} was let go of on the model server; it was not routed"
            tx.record("version.unload", ref, reason=reason, **told)
    meta.put(tx, key, " ".join(name for name, _ in notes))
