"""MLflow's tracking store inside a training: everything user code says to MLflow becomes lines of the run's journal.

The run of the training is the run that MLflow sees: whoever starts one without a parent (`start_run()`, the first
`log_metric`, autologging) is in it, and a nested run gets a key of its own. Which experiment the run belongs to is the
project's matter, so every experiment that code asks for is this one. Files are written into the run's folder by MLflow's
own repository for local paths. What is asked back (a run, a metric's history) is answered from the journal.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mlflow.entities import (
    Experiment,
    LoggedModel,
    LoggedModelStatus,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunStatus,
    RunTag,
)
from mlflow.entities import Metric as MlflowMetric
from mlflow.entities import Param as MlflowParam
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.validation import _validate_batch_log_data

from trueline.tracking import journal
from trueline.tracking.entries import Ended, Entry, Input, Metric, Model, Nested, Param, Tag, encode
from trueline.tracking.recording import LOGGED

EXPERIMENT = "0"
PARENT = "mlflow.parentRunId"
NAME = "mlflow.runName"
ORIGIN = ("mlflow.user", "mlflow.source.name", "mlflow.source.type", NAME)
"""Tags that MLflow makes up for every run it creates; those of our run say where it really comes from."""


@dataclass
class Told:
    """What one run was told so far, as user code may ask it back."""

    name: str
    began_ms: int
    status: str = "RUNNING"
    ended_ms: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)  # the last of each name

    def add(self, entry: Entry) -> None:
        if isinstance(entry, Metric):
            known = self.metrics.get(entry.name)
            if known is None or (entry.step, entry.at_ms) >= (known.step, known.at_ms):
                self.metrics[entry.name] = entry
        elif isinstance(entry, Param):
            self.params.setdefault(entry.name, entry.value)
        elif isinstance(entry, Tag):
            self.tags[entry.name] = entry.value
        elif isinstance(entry, Ended):
            self.status, self.ended_ms = entry.status, entry.at_ms


class JournalStore(AbstractStore):
    """For one training: `trueline://<folder>?run=<id>`."""

    def __init__(self, store_uri: str) -> None:
        super().__init__()
        address = urlsplit(store_uri)
        self._folder = Path(unquote(address.path))
        self._id = parse_qs(address.query)["run"][0]
        self._journal = journal.Journal(self._folder)
        self._experiment = self._id
        self._runs = {"": Told(self._id, _now_ms())}
        self._models: dict[str, Model] = {}
        self._ready: dict[str, LoggedModelStatus] = {}
        for entry in journal.everything(self._folder):  # another process of this training may have begun
            self._remember(entry)

    # runs

    def create_run(self, experiment_id: str, user_id: str, start_time: int, tags: list[RunTag], run_name: str) -> Run:  # noqa: ARG002
        """The run itself for whoever names no parent; otherwise a run nested in it."""
        given = {tag.key: tag.value for tag in tags or []}
        parent = given.pop(PARENT, None)
        if parent is None:
            chosen = {name: value for name, value in given.items() if name not in ORIGIN}
            if run_name:
                chosen[NAME] = run_name
            self._write(*(Tag(name, value) for name, value in chosen.items()))
            return self.get_run(self._id)
        key = uuid.uuid4().hex
        name = run_name or given.get(NAME) or f"{self._id}-{key[:8]}"
        above = "" if parent == self._id or parent not in self._runs else parent
        told = (Tag(name, value, key) for name, value in given.items() if name not in ORIGIN)
        self._write(Nested(key, name, start_time or _now_ms(), above), *told)
        return self.get_run(key)

    def get_run(self, run_id: str) -> Run:
        told, key = self._told(run_id), self._key(run_id)
        tags = {NAME: told.name, "mlflow.user": "trueline"} | told.tags
        if key:
            tags[PARENT] = self._parents.get(key) or self._id
        data = RunData(
            [MlflowMetric(one.name, one.value, one.at_ms, one.step) for one in told.metrics.values()],
            [MlflowParam(name, value) for name, value in told.params.items()],
            [RunTag(name, value) for name, value in tags.items()],
        )
        return Run(self._info(run_id), data, RunInputs([]))

    def update_run_info(
        self, run_id: str, run_status: int | None, end_time: int | None, run_name: str | None
    ) -> RunInfo:
        """A nested run ends when it is told so; how the run itself ended is seen when its process has."""
        key = self._key(run_id)
        if run_name:
            self._write(Tag(NAME, run_name, key))
        status = None if run_status is None else RunStatus.to_string(run_status)
        if key and status not in {None, "RUNNING", "SCHEDULED"}:
            self._write(Ended(key, str(status), end_time or _now_ms()))
        return self._info(run_id)

    def delete_run(self, run_id: str) -> None:
        raise MlflowException(f"run {run_id} cannot be deleted or restored by the training that makes it")

    restore_run = delete_run

    def _search_runs(self, *_: Any, **__: Any) -> Any:
        raise MlflowException(
            "code in a training sees its own run alone; search others by MlflowClient(tracking_uri=…).search_runs"
        )

    # what is logged

    def log_batch(self, run_id: str, metrics: list[Any] = (), params: list[Any] = (), tags: list[Any] = ()) -> None:  # type: ignore[assignment]
        key, told = self._key(run_id), self._told(run_id)
        metrics, params, tags = _validate_batch_log_data(metrics, params, tags)
        for one in params:
            if told.params.get(one.key, str(one.value)) != str(one.value):
                raise MlflowException(
                    f"Changing param values is not allowed. Param with key='{one.key}' was already logged with "
                    f"value='{told.params[one.key]}' for run ID='{run_id}'. Attempted logging new value '{one.value}'.",
                    INVALID_PARAMETER_VALUE,
                )
        self._write(
            *(Metric(one.key, float(one.value), one.step or 0, one.timestamp, key, one.model_id) for one in metrics),
            *(Param(one.key, str(one.value), key) for one in params),
            *(Tag(one.key, str(one.value), key) for one in tags),
        )

    def log_metric(self, run_id: str, metric: Any) -> None:
        self.log_batch(run_id, [metric])

    def log_param(self, run_id: str, param: Any) -> None:
        self.log_batch(run_id, params=[param])

    def set_tag(self, run_id: str, tag: Any) -> None:
        self.log_batch(run_id, tags=[tag])

    def delete_tag(self, run_id: str, key: str) -> None:
        self._told(run_id).tags.pop(key, None)
        self._write(Tag(key, "", self._key(run_id)))

    def log_inputs(self, run_id: str, datasets: list[Any] | None = None, models: list[Any] | None = None) -> None:  # noqa: ARG002
        for one in datasets or []:
            fields = {name: str(value) for name, value in dict(one.dataset).items() if value is not None}
            self._write(Input(fields, {tag.key: tag.value for tag in one.tags}, self._key(run_id)))

    def log_outputs(self, run_id: str, models: list[Any]) -> None:
        """A model is an output of the run that it names as its source; that is told with the model."""

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Kept for old clients of MLflow; the model itself is told."""

    def get_metric_history(
        self,
        run_id: str,
        metric_key: str,
        max_results: int | None = None,  # noqa: ARG002
        page_token: str | None = None,  # noqa: ARG002
    ) -> PagedList[Any]:
        key = self._key(run_id)
        said = [
            one
            for one in journal.everything(self._folder)
            if isinstance(one, Metric) and (one.name, one.run) == (metric_key, key)
        ]
        return PagedList(
            [MlflowMetric(one.name, one.value, one.at_ms, one.step, model_id=one.model, run_id=run_id) for one in said],
            None,
        )

    # models

    def create_logged_model(
        self,
        experiment_id: str,  # noqa: ARG002
        name: str | None = None,
        source_run_id: str | None = None,
        tags: list[Any] | None = None,
        params: list[Any] | None = None,
        model_type: str | None = None,
    ) -> LoggedModel:
        key = f"m-{uuid.uuid4().hex}"
        run = self._key(source_run_id) if source_run_id else ""
        known = {one.key: one.value for one in tags or []}, {one.key: str(one.value) for one in params or []}
        self._write(Model(key, name or "model", model_type, known[1], known[0], run))
        return self.get_logged_model(key)

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:  # noqa: ARG002, FBT001, FBT002
        model = self._model(model_id)
        return LoggedModel(
            EXPERIMENT,
            model_id,
            model.name,
            (self._folder / LOGGED / "models" / model_id).as_uri(),
            self._runs[""].began_ms,
            _now_ms(),
            model.kind,
            model.run or self._id,
            self._ready.get(model_id, LoggedModelStatus.PENDING),
            tags=dict(model.tags),
            params=dict(model.params),
        )

    def finalize_logged_model(self, model_id: str, status: LoggedModelStatus) -> LoggedModel:
        self._ready[model_id] = status
        return self.get_logged_model(model_id)

    def set_logged_model_tags(self, model_id: str, tags: list[Any]) -> None:
        model = self._model(model_id)
        self._write(replace(model, tags={**model.tags, **{one.key: one.value for one in tags}}))

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        model = self._model(model_id)
        self._write(replace(model, tags={name: value for name, value in model.tags.items() if name != key}))

    def log_logged_model_params(self, model_id: str, params: list[Any]) -> None:
        model = self._model(model_id)
        self._write(replace(model, params={**model.params, **{one.key: str(one.value) for one in params}}))

    def search_logged_models(self, *_: Any, **__: Any) -> PagedList[Any]:
        return PagedList([self.get_logged_model(key) for key in self._models], None)

    # experiments

    def get_experiment(self, experiment_id: str) -> Experiment:  # noqa: ARG002
        return Experiment(EXPERIMENT, self._experiment, (self._folder / LOGGED).as_uri(), "active")

    def get_experiment_by_name(self, experiment_name: str) -> Experiment:
        self._experiment = experiment_name
        return self.get_experiment(EXPERIMENT)

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> str:  # noqa: ARG002
        self._experiment = name
        return EXPERIMENT

    def search_experiments(self, *_: Any, **__: Any) -> PagedList[Any]:
        return PagedList([self.get_experiment(EXPERIMENT)], None)

    def delete_experiment(self, experiment_id: str, *_: Any) -> None:
        raise MlflowException(f"experiment {experiment_id} cannot be changed by a training in it")

    restore_experiment = rename_experiment = delete_experiment

    def link_traces_to_run(self, trace_ids: list[str], run_id: str) -> None:
        """Traces are not kept."""

    # the journal

    def _write(self, *entries: Entry) -> None:
        self._journal.append("".join(map(encode, entries)))
        for entry in entries:
            self._remember(entry)

    def _remember(self, entry: Entry) -> None:
        if isinstance(entry, Nested):
            self._runs[entry.run] = Told(entry.name, entry.at_ms)
        elif isinstance(entry, Model):
            self._models[entry.model] = entry
        elif not isinstance(entry, Input) and entry.run in self._runs:
            self._runs[entry.run].add(entry)

    @property
    def _parents(self) -> dict[str, str]:
        return {one.run: one.parent for one in journal.everything(self._folder) if isinstance(one, Nested)}

    def _key(self, run_id: str) -> str:
        return "" if run_id == self._id else run_id

    def _told(self, run_id: str) -> Told:
        try:
            return self._runs[self._key(run_id)]
        except KeyError:
            raise MlflowException(
                f"Run '{run_id}' not found: code in a training sees its own run ({self._id}) and those nested in it",
                RESOURCE_DOES_NOT_EXIST,
            ) from None

    def _model(self, model_id: str) -> Model:
        try:
            return self._models[model_id]
        except KeyError:
            raise MlflowException(f"Logged model '{model_id}' not found in this run", RESOURCE_DOES_NOT_EXIST) from None

    def _info(self, run_id: str) -> RunInfo:
        told, key = self._told(run_id), self._key(run_id)
        place = self._folder / LOGGED / "runs" / key if key else self._folder / LOGGED
        return RunInfo(
            run_id,
            EXPERIMENT,
            "trueline",
            told.status,
            told.began_ms,
            told.ended_ms,
            "active",
            (place / "artifacts").as_uri(),
            told.tags.get(NAME, told.name),
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
