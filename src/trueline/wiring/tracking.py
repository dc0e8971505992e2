"""From `tracking:` of the project file to the store that is told of runs, and to what trainings may read of it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

from trueline.control.context import Context
from trueline.errors import InvalidProject
from trueline.settings import resolve, shown
from trueline.store import meta
from trueline.store.engine import Tx
from trueline.tracking.mlflow_store import MlflowTracking
from trueline.tracking.recording import STORE
from trueline.tracking.store import Tracking

DEPLOYMENT = "deployment"
SCHEMES = {"http", "https", "sqlite", "postgresql", "mysql", "mssql"}


def opener(context: Context) -> Callable[[], Tracking]:
    """How the tracking store of this project is opened: the first time takes seconds, so when it is first needed.

    Raises:
        InvalidProject: `tracking:` refers to a variable or a file that is not there.
    """
    address = context.project.engines.tracking
    named = None if address is None else _checked(resolve(address, "tracking", context.root))
    # MLflow in a training process reads registered models from there; the environment is how it gets its credentials too
    os.environ[STORE] = named or f"sqlite:///{context.folder.tracking_database}"

    def open_tracking() -> Tracking:
        with context.store.begin() as tx:
            deployment = _deployment(tx)
        return MlflowTracking(named or context.folder.tracking_database, context.folder.tracking_artifacts, deployment)

    return open_tracking


def _checked(address: str) -> str:
    if address.partition("://")[0].partition("+")[0] not in SCHEMES or "://" not in address:
        raise InvalidProject(
            f"tracking is {shown(address)}, which names no MLflow: write a server's https://…, or a database's postgresql://… "
            "or sqlite:////path"
        )
    return address


def _deployment(tx: Tx) -> str:
    """A name of this database that no other has: several may tell one MLflow server of their run-1."""
    known = meta.get(tx, DEPLOYMENT)
    if known is None:
        known = uuid.uuid4().hex
        meta.put(tx, DEPLOYMENT, known)
    return known
