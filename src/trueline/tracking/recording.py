"""The hook of a training process: what its code says by `trueline.log` or `mlflow.*` goes to its run's journal.

MLflow itself is only told where to write (`plugin`), by its own environment variables: a training that never calls it
does not import it, and processes that the training starts write to the same journal.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from trueline.tracking import journal

SCHEME = "trueline"
LOGGED = "mlflow"  # of a run's folder: the files that user code logged with MLflow
STORE = "TRUELINE_TRACKING"  # in the environment of trainings: the store that registered models are read from
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
FOREIGN = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")  # of a run that is not this one


@contextmanager
def recording(folder: Path, run_id: str) -> Iterator[None]:
    """Record into this folder, anew: what an earlier attempt left there never counted."""
    (folder / journal.NAME).unlink(missing_ok=True)
    shutil.rmtree(folder / LOGGED, ignore_errors=True)
    ours = environment(folder, run_id)
    before = {name: os.environ.pop(name, None) for name in (*FOREIGN, *ours)}
    os.environ.update(ours)
    journal.begin(folder, uuid.uuid4().hex[:8])
    try:
        yield
    finally:
        _finish_mlflow()
        journal.end()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def environment(folder: Path, run_id: str) -> dict[str, str]:
    """What MLflow reads to write to the journal of this folder."""
    journalled = f"{SCHEME}://{quote(str(folder.absolute()))}?run={quote(run_id)}"
    return {"MLFLOW_TRACKING_URI": journalled, "MLFLOW_REGISTRY_URI": f"{SCHEME}://registry", **QUIET}


def _finish_mlflow() -> None:
    """Wait for what MLflow writes in threads of its own, and leave no run of it open."""
    mlflow = sys.modules.get("mlflow")
    if mlflow is None or not hasattr(mlflow, "active_run"):
        return
    mlflow.flush_async_logging()
    while mlflow.active_run() is not None:
        mlflow.end_run()
