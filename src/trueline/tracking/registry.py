"""The project's model registry as code in a training sees it: it may load what is registered, and registers nothing.

What a training makes is registered when its run has ended, packaged and with its evidence. A script that also registers
its model (`registered_model_name=`) goes on, and its log says that nothing came of it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.tracking._model_registry.utils import _get_store

from trueline.errors import Unavailable
from trueline.tracking.recording import STORE

OURS = "sqlite:///"  # the state folder's own file, which the worker makes
PASSED_OVER = (
    "rename_registered_model",
    "update_registered_model",
    "delete_registered_model",
    "set_registered_model_tag",
    "delete_registered_model_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "update_model_version",
    "transition_model_version_stage",
    "delete_model_version",
    "set_model_version_tag",
    "delete_model_version_tag",
)


class ReadRegistry:
    def __init__(self) -> None:
        self._opened: Any = None
        self._told = False

    def create_registered_model(self, name: str, *_: Any, **__: Any) -> RegisteredModel:
        self._tell(f"model {name} is not registered")
        return RegisteredModel(name)

    def create_model_version(
        self, name: str, source: str, run_id: str | None = None, *_: Any, **__: Any
    ) -> ModelVersion:
        self._tell(f"no version of {name} is registered")
        return ModelVersion(name, "0", int(time.time() * 1000), source=source, run_id=run_id, status="READY")

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        """Where the files are, as an address that needs no tracking server beside it."""
        found = str(self._store().get_model_version_download_uri(name, version))
        if found.startswith("mlflow-artifacts:"):
            return str(MlflowArtifactsRepository.resolve_uri(found, os.environ[STORE]))
        return found

    def _await_model_version_creation(self, version: ModelVersion, seconds: float) -> None:
        """MLflow asks for it; there is nothing to wait for."""

    def __getattr__(self, name: str) -> Any:
        if name in PASSED_OVER:
            return lambda *_, **__: self._tell(f"{name} has no effect")
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._store(), name)

    def _store(self) -> Any:
        if self._opened is None:
            if STORE not in os.environ:
                raise Unavailable("this training was started without a model registry; nothing can be loaded from one")
            address = os.environ[STORE]
            if address.startswith(OURS) and not Path(address.removeprefix(OURS)).exists():
                raise MlflowException("nothing is registered in this project yet", RESOURCE_DOES_NOT_EXIST)
            self._opened = _get_store(address)
        return self._opened

    def _tell(self, what: str) -> None:
        if not self._told:
            sys.stderr.write(f"{what} by code inside a training: trueline registers the version when its run ends\n")
        self._told = True
