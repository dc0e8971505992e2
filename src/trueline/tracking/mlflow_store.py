"""The embedded MLflow store: an SQLite file and an artifact folder that any MLflow client or page reads.

It uses MLflow's own stores directly, below its client: the same rows, without the client's per-call extras. MLflow gives
runs and versions names of its own; ours are tags, set in the statement that creates the thing, so that after a death the
tag tells whether it was created. Files are hard-linked into the artifact folder; model versions point to where we serve
them from.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trueline.clock import to_us
from trueline.errors import NotFound
from trueline.tracking import journal
from trueline.tracking.journal import LONGEST_VALUE, Metric
from trueline.tracking.store import DIGEST_TAG, FILES, OFFSET_TAG, RUN_TAG, VERSION_TAG, TrackedRun, TrackedVersion

BATCH = 800  # metrics in one log_batch: MLflow takes 1000 of metrics, parameters and tags together
SMALL_BATCH = 100  # parameters in one log_batch, MLflow's limit
LONGEST_TAG = 8_000
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}


class MlflowTracking:
    """Feeds one store; opening it creates the file (a few seconds the first time, MLflow's migrations)."""

    def __init__(self, database: Path, artifacts: Path) -> None:
        mlflow = _load()
        self._entities = mlflow.entities
        self._artifacts = artifacts.absolute()
        with _quiet():
            if not database.exists():
                self._create(mlflow, database.absolute())
            self._runs, self._models = self._open(mlflow, database.absolute())
        self._missing = mlflow.exception
        self._known: dict[str, tuple[str, Path]] = {}  # our run id -> MLflow's run id and artifact folder
        self._experiments: dict[str, str] = {}

    def run(self, run: TrackedRun) -> None:
        uuid, artifacts = self._run(run)
        stored = self._runs.get_run(uuid)
        at_ms = _ms(run.finished_at or run.started_at)
        metrics = [self._entities.Metric(name, float(value), at_ms, 0) for name, value in run.metrics.items()]
        self._log(uuid, metrics, _texts(run.params, LONGEST_VALUE), _texts(run.tags, LONGEST_TAG), stored.data.params)
        if run.folder is not None:
            self._journal(uuid, run.folder, int(stored.data.tags.get(OFFSET_TAG, "0")), stored.data.params)
            for name in FILES:
                _link(run.folder / name, artifacts / name)
        status = self._entities.RunStatus.from_string(run.status)
        finished = None if run.finished_at is None else _ms(run.finished_at)
        self._runs.update_run_info(uuid, status, finished, None)

    def version(self, version: TrackedVersion) -> None:
        if self._version_number(version.model, version.version) is not None:
            return
        self._model(version.model)
        tags = {**version.tags, VERSION_TAG: str(version.version), DIGEST_TAG: version.digest, RUN_TAG: version.run_id}
        entities = [self._entities.ModelVersionTag(name, value) for name, value in _texts(tags, LONGEST_TAG).items()]
        uuid = self._find(version.run_id)
        self._models.create_model_version(version.model, version.folder.absolute().as_uri(), uuid, entities)

    def alias(self, model: str, alias: str, version: int | None) -> None:
        if version is not None:
            number = self._version_number(model, version)
            if number is None:
                raise NotFound(f"model {model} has no registered version {version}")
            self._models.set_registered_model_alias(model, alias, number)
            return
        with contextlib.suppress(self._missing):  # no such model: it has no alias either
            self._models.delete_registered_model_alias(model, alias)

    def _open(self, mlflow: SimpleNamespace, database: Path) -> tuple[Any, Any]:
        uri = f"sqlite:///{database}"
        return mlflow.runs(uri, self._artifacts.as_uri()), mlflow.models(uri)

    def _create(self, mlflow: SimpleNamespace, database: Path) -> None:
        """Make the file under another name first: MLflow refuses for ever one whose migrations were cut short."""
        draft = database.with_name(f"{database.name}.draft-{os.getpid()}")
        draft.unlink(missing_ok=True)
        for store in self._open(mlflow, draft):
            store.engine.dispose()
        with contextlib.suppress(FileExistsError, FileNotFoundError):  # another process was faster
            os.link(draft, database)
        for left in database.parent.glob(f"{database.name}.draft-*"):
            left.unlink(missing_ok=True)

    def close(self) -> None:
        self._runs.engine.dispose()
        self._models.engine.dispose()

    def _run(self, run: TrackedRun) -> tuple[str, Path]:
        if (known := self._known.get(run.run_id)) is not None:
            return known
        experiment = self._experiment(run.project)
        uuid = self._find(run.run_id, experiment)
        if uuid is None:
            tags = [self._entities.RunTag(RUN_TAG, run.run_id)]
            uuid = self._runs.create_run(experiment, "trueline", _ms(run.started_at), tags, run.run_id).info.run_id
        found = uuid, self._artifacts / experiment / uuid / "artifacts"
        self._known[run.run_id] = found
        return found

    def _find(self, run_id: str, experiment: str | None = None) -> str | None:
        if experiment is None and run_id in self._known:
            return self._known[run_id][0]
        experiments = [experiment] if experiment else [one.experiment_id for one in self._runs.search_experiments()]
        found = self._runs.search_runs(experiments, f"tags.`{RUN_TAG}` = '{run_id}'", self._entities.ViewType.ALL, 1)
        return found[0].info.run_id if found else None

    def _experiment(self, project: str) -> str:
        if project not in self._experiments:
            found = self._runs.get_experiment_by_name(project)
            self._experiments[project] = found.experiment_id if found else self._runs.create_experiment(project)
        return self._experiments[project]

    def _model(self, name: str) -> None:
        try:
            self._models.get_registered_model(name)
        except self._missing:
            self._models.create_registered_model(name)

    def _version_number(self, model: str, version: int) -> str | None:
        found = self._models.search_model_versions(f"name = '{model}' and tag.`{VERSION_TAG}` = '{version}'", 1)
        return str(found[0].version) if found else None

    def _journal(self, uuid: str, folder: Path, offset: int, params: Mapping[str, str]) -> None:
        """Feed the journal on; the offset is a tag in the same batch as what it covers."""
        while True:
            entries, offset = journal.read(folder, offset, BATCH)
            if not entries:
                return
            metrics = [
                self._entities.Metric(one.name, one.value, one.at_ms, one.step)
                for one in entries
                if isinstance(one, Metric)
            ]
            given = {one.name: one.value for one in entries if not isinstance(one, Metric)}
            self._log(uuid, metrics, given, {OFFSET_TAG: str(offset)}, params)

    def _log(
        self,
        uuid: str,
        metrics: list[Any],
        params: Mapping[str, str],
        tags: Mapping[str, str],
        known: Mapping[str, str],
    ) -> None:
        """One batch, or more where MLflow's limits want it; a parameter that is there is not said again."""
        new = [self._entities.Param(name, value) for name, value in params.items() if name not in known]
        while len(new) > SMALL_BATCH:
            self._runs.log_batch(uuid, [], new[:SMALL_BATCH], [])
            new = new[SMALL_BATCH:]
        self._runs.log_batch(uuid, metrics[:BATCH], new, [self._entities.RunTag(k, v) for k, v in tags.items()])


def _load() -> Any:
    """MLflow's stores and entities: imported when a store is opened, with its telemetry and chatter off before that."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import entities  # noqa: PLC0415
    from mlflow.entities import model_registry  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Models  # noqa: PLC0415
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Runs  # noqa: PLC0415

    names = ("Metric", "Param", "RunTag", "RunStatus", "ViewType")
    kinds = SimpleNamespace(**{name: getattr(entities, name) for name in names})
    kinds.ModelVersionTag = model_registry.ModelVersionTag
    return SimpleNamespace(entities=kinds, runs=Runs, models=Models, exception=MlflowException)


@contextlib.contextmanager
def _quiet() -> Any:
    """MLflow's migrations set up logging for themselves; put the levels back to quiet afterwards."""
    try:
        yield
    finally:
        for name in ("mlflow", "alembic", "alembic.runtime.migration"):
            logging.getLogger(name).setLevel(logging.WARNING)


def _link(source: Path, target: Path) -> None:
    if not source.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        draft.hardlink_to(source)
    except OSError:  # another file system
        shutil.copyfile(source, draft)
    draft.replace(target)
    draft.unlink(missing_ok=True)  # renaming onto another link of the same file does nothing, by POSIX


def _texts(values: Mapping[str, Any], longest: int) -> dict[str, str]:
    return {name: str(value)[:longest] for name, value in values.items()}


def _ms(moment: Any) -> int:
    return to_us(moment) // 1000
