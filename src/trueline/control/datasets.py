"""Dataset versions: the rows that say what the Delta table holds under our own numbers."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import insert

from trueline.domain.datasets import DatasetVersion
from trueline.store import rows, tables
from trueline.store.engine import Tx


def newest(tx: Tx, project: str) -> DatasetVersion | None:
    return rows.first(tx, DatasetVersion, tables.datasets.c.project == project, newest=True)


def record(
    tx: Tx,
    project: str,
    *,
    number: int,
    digest: str,
    count: int,
    origin: str,
    delta_version: int,
    actor: str,
    reason: str,
) -> DatasetVersion:
    """Confirm a version that was written to the table; the same number twice is the same version."""
    box = tables.datasets
    known = rows.first(tx, DatasetVersion, box.c.project == project, box.c.number == number)
    if known is not None:
        return known
    made = DatasetVersion(project, number, digest, count, origin, delta_version, tx.now)
    tx.execute(insert(box), asdict(made))
    detail = {"digest": digest, "rows": count}
    tx.record("dataset.version", f"d{number}", project=project, actor=actor, reason=reason, detail=detail)
    return made
