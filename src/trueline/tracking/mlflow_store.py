"""Runs, versions and aliases in MLflow, in its own words: in our SQLite file, a team's database, or a server.

MLflow gives runs and versions names of its own; ours are tags, set in the call that creates the thing, so that after a
death the tag tells whether it was created. A call that was cut off may still be carried out by a slow server, after we
looked and before we asked again: whatever turns up twice is settled to one when the run is finished. Metric points need
no such care: MLflow keeps one of each name, step, time and value, and the journal's offset is a tag in the same batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueline.clock import to_us
from trueline.errors import InvalidInput, NotFound
from trueline.tracking import journal, mlflow_models
from trueline.tracking.artifacts import files
from trueline.tracking.entries import Ended, Entry, Input, Metric, Model, Nested, Param, Tag
from trueline.tracking.journal import LONGEST_VALUE
from trueline.tracking.mlflow_connection import connect
from trueline.tracking.recording import LOGGED
from trueline.tracking.store import (
    DEPLOYMENT_TAG,
    DIGEST_TAG,
    FILES,
    OFFSET_TAG,
    RUN_TAG,
    VERSION_TAG,
    TrackedRun,
    TrackedVersion,
)

BATCH = 800  # metrics in one log_batch: MLflow takes 1000 of metrics, parameters and tags together
SMALL_BATCH = 100  # parameters or tags in one log_batch, MLflow's limit
LONGEST_TAG = 8_000
PARENT = "mlflow.parentRunId"
KEPT = (RUN_TAG, DEPLOYMENT_TAG, OFFSET_TAG)


@dataclass(frozen=True)
class Found:
    """A run as MLflow knows it."""

    uuid: str
    experiment: str
    artifacts: str


class MlflowTracking:
    """Feeds one MLflow; opening our own file for the first time takes a few seconds, MLflow's migrations.

    `deployment` tells our run-1 from another deployment's where they share a server.
    """

    def __init__(self, address: Path | str, artifacts: Path, deployment: str = "") -> None:
        self._connection = connect(address, artifacts)
        self._runs, self._registry = self._connection.runs, self._connection.models
        self._entities = self._connection.entities
        self._deployment = deployment
        self._known: dict[str, Found] = {}  # by our run id, or run id and key of a nested run
        self._experiments: dict[str, str] = {}

    def run(self, run: TrackedRun) -> None:
        with self._connection.translated():
            self._connection.artifacts.forget()
            found = self._run(run)
            stored = self._runs.get_run(found.uuid)
            for name in stored.data.tags:  # of an attempt that failed before this one
                if name.startswith("trueline.") and name not in run.tags and not name.startswith(KEPT):
                    self._runs.delete_tag(found.uuid, name)
            at_ms = _ms(run.finished_at or run.started_at)
            metrics = [self._entities.Metric(name, float(value), at_ms, 0) for name, value in run.metrics.items()]
            self._log(found.uuid, metrics, _texts(run.params, LONGEST_VALUE), run.tags, stored.data.params)
            if run.folder is not None:
                self._journal(run, found, _position(stored.data.tags))
                self._files(run, run.folder, found)
            self._settle(run, found)

    def version(self, version: TrackedVersion) -> None:
        with self._connection.translated():
            if self._version_number(version.model, version.version) is not None:
                return
            self._connection.artifacts.forget()
            self._model(version.model)
            run = self._find(version.model, version.run_id)
            if run is None:
                raise NotFound(
                    f"version {version.version} of {version.model} waits for {version.run_id} to be told to MLflow"
                )
            tags = {
                **version.tags,
                VERSION_TAG: str(version.version),
                DIGEST_TAG: version.digest,
                RUN_TAG: version.run_id,
            }
            entities = [self._entities.ModelVersionTag(*tag) for tag in _texts(self._owned(tags), LONGEST_TAG).items()]
            source = self._connection.artifacts.model(run.artifacts, version.folder)
            self._registry.create_model_version(version.model, source, run.uuid, entities)

    def alias(self, model: str, alias: str, version: int | None) -> None:
        with self._connection.translated():
            if version is not None:
                number = self._version_number(model, version)
                if number is None:
                    raise NotFound(f"model {model} has no registered version {version}")
                self._registry.set_registered_model_alias(model, alias, number)
                return
            with self._unless_missing():
                if alias in self._registry.get_registered_model(model).aliases:
                    self._registry.delete_registered_model_alias(model, alias)

    def close(self) -> None:
        self._connection.close()

    # finding and creating

    def _run(self, run: TrackedRun) -> Found:
        found = self._find(run.project, run.run_id)
        if found is None:
            found = self._create(self._experiment(run.project), run.run_id, run.run_id, _ms(run.started_at), {})
        return found

    def _create(self, experiment: str, key: str, name: str, began_ms: int, tags: Mapping[str, str]) -> Found:
        entities = [self._entities.RunTag(*tag) for tag in self._owned({RUN_TAG: key, **tags}).items()]
        created = self._runs.create_run(experiment, "trueline", began_ms, entities, name).info
        found = self._known[key] = Found(created.run_id, created.experiment_id, created.artifact_uri)
        return found

    def _find(self, project: str, key: str) -> Found | None:
        if key not in self._known:
            found = self._search(self._experiment(project), key)
            if not found:
                return None
            self._known[key] = found[0]
        return self._known[key]

    def _search(self, experiment: str, key: str) -> list[Found]:
        """Every run of that key; where a cut-off call was repeated, the one that knows most comes first."""
        view = self._entities.ViewType.ALL
        runs = self._runs.search_runs([experiment], self._filter(RUN_TAG, key), view, 10)
        active = [one for one in runs if one.info.lifecycle_stage == "active"]
        if runs and not active:
            raise InvalidInput(f"{key} was deleted in MLflow; restore it there to have it go on")
        active.sort(key=lambda one: (not _position(one.data.tags), one.info.run_id))
        return [Found(one.info.run_id, one.info.experiment_id, one.info.artifact_uri) for one in active]

    def _experiment(self, project: str) -> str:
        if project not in self._experiments:
            found = self._runs.get_experiment_by_name(project)
            if found is not None and found.lifecycle_stage != "active":
                raise InvalidInput(f"the experiment {project} was deleted in MLflow; restore it there")
            self._experiments[project] = found.experiment_id if found else self._runs.create_experiment(project)
        return self._experiments[project]

    def _model(self, name: str) -> None:
        with self._unless_missing():
            self._registry.get_registered_model(name)
            return
        self._registry.create_registered_model(name)

    def _version_number(self, model: str, version: int) -> str | None:
        asked = f"name = '{model}' and {self._filter(VERSION_TAG, str(version))}"
        found = sorted(self._registry.search_model_versions(asked, 10), key=lambda one: int(one.version))
        for extra in found[1:]:  # a cut-off call that was repeated
            self._registry.delete_model_version(model, extra.version)
        return str(found[0].version) if found else None

    def _filter(self, tag: str, value: str) -> str:
        owner = f" and tags.`{DEPLOYMENT_TAG}` = '{self._deployment}'" if self._deployment else ""
        return f"tags.`{tag}` = '{value}'{owner}"

    def _owned(self, tags: Mapping[str, str]) -> dict[str, str]:
        return {**tags, DEPLOYMENT_TAG: self._deployment} if self._deployment else dict(tags)

    @contextlib.contextmanager
    def _unless_missing(self) -> Iterator[None]:
        try:
            yield
        except self._connection.exception as problem:
            if getattr(problem, "error_code", "") != "RESOURCE_DOES_NOT_EXIST":
                raise

    # what is said of a run

    def _journal(self, run: TrackedRun, main: Found, position: journal.Position) -> None:
        """Feed the journal on, nested runs first: the offset is a tag in the batch of the run itself."""
        assert run.folder is not None  # noqa: S101  asked by the caller
        folders = [one / LOGGED / "models" for one in journal.folders(run.folder)]
        models = mlflow_models.Logged(self._connection, folders, main.experiment, self._deployment)
        # what was fed before a death must be known again, though it is not said again
        for one in _runs_within(run.folder):
            if isinstance(one, Nested):
                self._nested(run, main, one)
        while True:
            entries, after = journal.read(run.folder, position, BATCH)
            if not entries:
                return
            by_run: dict[str, list[Entry]] = {"": []}
            for said in entries:
                by_run.setdefault(said.run, []).append(said)
            for key, batch in sorted(by_run.items(), reverse=True):  # the run itself, whose key is empty, comes last
                found = self._known.get(f"{run.run_id}/{key}", main) if key else main
                self._say(found.uuid, batch, models, {} if key else _position_tags(position, after))
            position = after

    def _nested(self, run: TrackedRun, main: Found, entry: Nested) -> Found:
        key = f"{run.run_id}/{entry.run}"
        found = self._find(run.project, key)
        if found is None:
            parent = self._known.get(f"{run.run_id}/{entry.parent}", main) if entry.parent else main
            found = self._create(main.experiment, key, entry.name, entry.at_ms, {PARENT: parent.uuid})
        return found

    def _say(self, uuid: str, entries: Iterable[Entry], models: mlflow_models.Logged, tags: Mapping[str, str]) -> None:
        """One batch of what one run was told."""
        kinds, metrics = self._entities, []
        params: dict[str, str] = {}
        given: dict[str, str] = {}
        for one in entries:
            if isinstance(one, Metric):
                model = None if one.model is None else models.known(one.model)
                metrics.append(kinds.Metric(one.name, one.value, one.at_ms, one.step, model_id=model))
            elif isinstance(one, Param):
                params.setdefault(one.name, one.value)
            elif isinstance(one, Tag):
                given[one.name] = one.value
            elif isinstance(one, Input):
                dataset = kinds.DatasetInput(
                    kinds.Dataset(**one.dataset), [kinds.InputTag(*tag) for tag in one.tags.items()]
                )
                self._runs.log_inputs(uuid, [dataset])
            elif isinstance(one, Model):
                models.tell(uuid, one)
            elif isinstance(one, Ended):
                self._runs.update_run_info(uuid, kinds.RunStatus.from_string(one.status), one.at_ms, None)
        known = self._runs.get_run(uuid).data.params if params else {}
        self._log(uuid, metrics, params, {**given, **tags}, known)

    def _log(
        self,
        uuid: str,
        metrics: list[Any],
        params: Mapping[str, str],
        tags: Mapping[str, str],
        known: Mapping[str, str],
    ) -> None:
        """Metrics with their tags last; a parameter that MLflow knows is left out, for it refuses another value."""
        new = [self._entities.Param(name, value) for name, value in params.items() if name not in known]
        said = [self._entities.RunTag(name, value) for name, value in _texts(tags, LONGEST_TAG).items()]
        for start in range(0, len(new), SMALL_BATCH):
            self._runs.log_batch(uuid, [], new[start : start + SMALL_BATCH], [])
        while len(said) > SMALL_BATCH:
            self._runs.log_batch(uuid, [], [], said[:SMALL_BATCH])
            said = said[SMALL_BATCH:]
        if metrics or said:
            self._runs.log_batch(uuid, metrics, [], said)

    def _files(self, run: TrackedRun, folder: Path, main: Found) -> None:
        put = self._connection.artifacts.put
        for name in FILES:
            if (folder / name).is_file():
                put(main.artifacts, name, folder / name)
        for one in journal.folders(folder):
            for path, source in files(one / LOGGED / "artifacts"):
                put(main.artifacts, path, source)
            for nested in sorted((one / LOGGED / "runs").glob("*")):
                for path, source in files(nested / "artifacts"):
                    put(self._known[f"{run.run_id}/{nested.name}"].artifacts, path, source)

    def _settle(self, run: TrackedRun, main: Found) -> None:
        """Say how everything ended, and leave one run where a cut-off call made two."""
        status = self._entities.RunStatus.from_string(run.status)
        finished = None if run.finished_at is None else _ms(run.finished_at)
        within = [] if run.folder is None else _runs_within(run.folder)
        ended = {one.run for one in within if isinstance(one, Ended)}
        keys = [run.run_id]
        for one in within:
            if isinstance(one, Nested):
                keys.append(f"{run.run_id}/{one.run}")
                if finished is not None and one.run not in ended:  # its training died
                    self._runs.update_run_info(self._known[keys[-1]].uuid, status, finished, None)
        self._runs.update_run_info(main.uuid, status, finished, None)
        for key in keys:
            for other in self._search(main.experiment, key):
                if other.uuid != self._known[key].uuid:
                    self._runs.delete_run(other.uuid)


def _runs_within(folder: Path) -> list[Nested | Ended]:
    """What the journal says of nested runs, from its start."""
    return [one for one in journal.everything(folder) if isinstance(one, Nested | Ended)]


def _position(tags: Mapping[str, str]) -> journal.Position:
    """How far the journal was fed, by the tags of its run."""
    said = {name.removeprefix(OFFSET_TAG).lstrip("/"): at for name, at in tags.items() if name.startswith(OFFSET_TAG)}
    return {name: at for name, at in said.items() if at}


def _position_tags(before: journal.Position, after: journal.Position) -> dict[str, str]:
    changed = {name: at for name, at in after.items() if before.get(name) != at}
    return {f"{OFFSET_TAG}/{name}".rstrip("/"): at for name, at in changed.items()}


def _texts(values: Mapping[str, Any], longest: int) -> dict[str, str]:
    return {name: str(value)[:longest] for name, value in values.items()}


def _ms(moment: Any) -> int:
    return to_us(moment) // 1000
