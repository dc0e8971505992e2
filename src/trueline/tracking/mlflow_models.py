"""Models that user code logged with MLflow (`log_model`, autologging), brought from a run's folder to MLflow.

MLflow names a logged model when it is created; ours is a tag of it, as with runs. Its `MLmodel` file names the run and
the model, so it is written anew with the names they have in MLflow.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml

from trueline.tracking.artifacts import files
from trueline.tracking.entries import Model
from trueline.tracking.mlflow_connection import Connection
from trueline.tracking.store import DEPLOYMENT_TAG, MODEL_TAG

MLMODEL = "MLmodel"


class Logged:
    """The logged models of one run."""

    def __init__(self, connection: Connection, folders: list[Path], experiment: str, deployment: str) -> None:
        self._connection = connection
        self._folders = folders
        self._experiment = experiment
        self._deployment = deployment
        self._known: dict[str, Any] = {}

    def known(self, key: str) -> str | None:
        """MLflow's name of the model, if it was told."""
        found = self._found(key)
        return None if found is None else str(found.model_id)

    def tell(self, run: str, model: Model) -> None:
        """Create the model, or say what is new of it; its files, and that this run made it."""
        runs, kinds = self._connection.runs, self._connection.entities
        tags = {**model.tags, MODEL_TAG: model.model}
        if self._deployment:
            tags[DEPLOYMENT_TAG] = self._deployment
        entities = [kinds.LoggedModelTag(*tag) for tag in tags.items()]
        found = self._found(model.model)
        if found is None:
            params = [kinds.LoggedModelParameter(*param) for param in model.params.items()]
            found = runs.create_logged_model(self._experiment, model.name, run, entities, params, model.kind)
            self._known[model.model] = found
        else:
            runs.set_logged_model_tags(found.model_id, entities)
        self._upload(found, run, model.model)
        outputs = runs.get_run(run).outputs
        if found.model_id not in {one.model_id for one in (outputs.model_outputs if outputs else [])}:
            runs.log_outputs(run, [kinds.LoggedModelOutput(found.model_id, 0)])

    def _found(self, key: str) -> Any:
        if key not in self._known:
            owner = f" and tags.`{DEPLOYMENT_TAG}` = '{self._deployment}'" if self._deployment else ""
            asked = f"tags.`{MODEL_TAG}` = '{key}'{owner}"
            runs = self._connection.runs
            found = sorted(
                runs.search_logged_models([self._experiment], asked, max_results=10),
                key=lambda one: (one.creation_timestamp, one.model_id),
            )
            for extra in found[1:]:  # a cut-off call that was repeated
                runs.delete_logged_model(extra.model_id)
            if not found:
                return None
            self._known[key] = found[0]
        return self._known[key]

    def _upload(self, found: Any, run: str, key: str) -> None:
        sources = {path: source for folder in self._folders for path, source in files(folder / key)}
        if not sources:
            return
        put = self._connection.artifacts.put
        with tempfile.TemporaryDirectory(prefix="trueline-mlmodel-") as scratch:
            for path, source in sources.items():
                if path == MLMODEL:
                    renamed = Path(scratch) / MLMODEL
                    renamed.write_text(_renamed(source.read_text(), run, found))
                    put(found.artifact_location, path, renamed)
                else:
                    put(found.artifact_location, path, source)
        ready = self._connection.entities.LoggedModelStatus.READY
        self._connection.runs.finalize_logged_model(found.model_id, ready)


def _renamed(text: str, run: str, found: Any) -> str:
    plain = yaml.safe_load(text)
    names = {"run_id": run, "model_id": found.model_id, "artifact_path": found.artifact_location}
    return str(
        yaml.safe_dump({**plain, **{name: value for name, value in names.items() if name in plain}}, sort_keys=False)
    )
