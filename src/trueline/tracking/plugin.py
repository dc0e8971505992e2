"""What MLflow finds of us by its entry points, in any process that imports it: the scheme `trueline`.

Loaded with MLflow itself, so it costs nothing until a store of this scheme is opened. Inside a training, scripts that
choose a server for themselves (`mlflow.set_tracking_uri`) stay in their run all the same: the run goes to the project's
tracker, and a training never waits for a server. `MlflowClient(tracking_uri=…)` reaches any other store.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from trueline.tracking.recording import SCHEME

UTILS = "mlflow.tracking._tracking_service.utils"


def open_journal(store_uri: str, artifact_uri: str | None = None) -> Any:  # noqa: ARG001 the signature is MLflow's
    """The tracking store of `trueline://<folder>?run=<id>`."""
    from trueline.tracking.recorder import JournalStore  # noqa: PLC0415 imports MLflow, which imports this module

    return JournalStore(store_uri)


def open_registry(store_uri: str, tracking_uri: str | None = None) -> Any:  # noqa: ARG001 likewise
    """The model registry as a training sees it: the project's, to read."""
    from trueline.tracking.registry import ReadRegistry  # noqa: PLC0415 likewise

    return ReadRegistry()


def _stay(uri: object) -> None:
    sys.stderr.write(
        f"mlflow.set_tracking_uri({str(uri)!r}) has no effect inside a training of trueline: what is logged belongs to the "
        "run and goes to `tracking:` of the project file; use MlflowClient(tracking_uri=…) for another store\n"
    )


if os.environ.get("MLFLOW_TRACKING_URI", "").startswith(f"{SCHEME}:") and UTILS in sys.modules:
    # MLflow loads its entry points from the module that defines the setter, before anybody has taken it from there
    sys.modules[UTILS].set_tracking_uri = _stay  # type: ignore[attr-defined]
