"""Read back what a tracker was told, by other means than the tracker."""

from __future__ import annotations

from typing import Any, Protocol

from trueline.tracking.memory import MemoryTracking


class Reader(Protocol):
    def run(self, run_id: str) -> dict[str, Any]: ...
    def runs(self) -> int: ...
    def nested(self, run_id: str) -> list[tuple[str, dict[str, float]]]: ...
    def inputs(self, run_id: str) -> list[str]: ...
    def models(self, run_id: str) -> list[str]: ...
    def history(self, run_id: str, name: str) -> list[tuple[int, float]]: ...
    def versions(self, model: str) -> list[int]: ...
    def alias(self, model: str, alias: str) -> int | None: ...


class MemoryReader:
    def __init__(self, tracking: MemoryTracking) -> None:
        self.tracking = tracking

    def run(self, run_id: str) -> dict[str, Any]:
        kept = self.tracking.runs[run_id]
        last = {name: values[-1][1] for name, values in kept.metrics.items()}
        return {
            "status": kept.status,
            "params": kept.params,
            "metrics": last,
            "tags": kept.tags,
            "files": set(kept.files),
        }

    def runs(self) -> int:
        return len(self.tracking.runs)

    def nested(self, run_id: str) -> list[tuple[str, dict[str, float]]]:
        found = [kept for kept in self.tracking.runs.values() if kept.parent == run_id]
        return sorted((one.status, {name: last[-1][1] for name, last in one.metrics.items()}) for one in found)

    def inputs(self, run_id: str) -> list[str]:
        return self.tracking.runs[run_id].inputs

    def models(self, run_id: str) -> list[str]:
        return sorted(self.tracking.runs[run_id].models.values())

    def history(self, run_id: str, name: str) -> list[tuple[int, float]]:
        return self.tracking.runs[run_id].metrics[name]

    def versions(self, model: str) -> list[int]:
        return sorted(number for name, number in self.tracking.versions if name == model)

    def alias(self, model: str, alias: str) -> int | None:
        return self.tracking.aliases.get((model, alias))


class MlflowReader:
    """MLflow's own client, on the same store; of one deployment, where several share it."""

    def __init__(self, uri: str, deployment: str | None = None) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(uri)
        self.deployment = deployment

    def _mine(self, tags: dict[str, str]) -> bool:
        return self.deployment is None or tags.get("trueline.deployment") == self.deployment

    def _runs(self) -> list[Any]:
        experiments = [one.experiment_id for one in self.client.search_experiments()]
        return [one for one in self.client.search_runs(experiments) if self._mine(one.data.tags)]

    def _found(self, run_id: str) -> Any:
        (found,) = [one for one in self._runs() if one.data.tags["trueline.run_id"] == run_id]
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        found = self._found(run_id)
        own = {name: value for name, value in found.data.tags.items() if not name.startswith(("trueline.", "mlflow."))}
        return {
            "status": found.info.status,
            "params": found.data.params,
            "metrics": found.data.metrics,
            "tags": own,
            "files": set(self._files(found.info.run_id)),
        }

    def _files(self, uuid: str, path: str | None = None) -> list[str]:
        listed = self.client.list_artifacts(uuid, path)
        return [file for one in listed for file in (self._files(uuid, one.path) if one.is_dir else [one.path])]

    def runs(self) -> int:
        return len(self._runs())

    def nested(self, run_id: str) -> list[tuple[str, dict[str, float]]]:
        parent = self._found(run_id).info.run_id
        found = [one for one in self._runs() if one.data.tags.get("mlflow.parentRunId") == parent]
        return sorted((one.info.status, one.data.metrics) for one in found)

    def inputs(self, run_id: str) -> list[str]:
        return [one.dataset.name for one in self._found(run_id).inputs.dataset_inputs]

    def models(self, run_id: str) -> list[str]:
        found = self._found(run_id)
        outputs = {one.model_id for one in found.outputs.model_outputs}
        models = self.client.search_logged_models([found.info.experiment_id])
        assert {one.model_id for one in models if one.source_run_id == found.info.run_id} == outputs
        return sorted(one.name for one in models if one.model_id in outputs)

    def history(self, run_id: str, name: str) -> list[tuple[int, float]]:
        found = self.client.get_metric_history(self._found(run_id).info.run_id, name)
        return sorted((one.step, one.value) for one in found)

    def versions(self, model: str) -> list[int]:
        found = [one.tags for one in self.client.search_model_versions(f"name = '{model}'") if self._mine(one.tags)]
        return sorted(int(tags["trueline.version"]) for tags in found)

    def alias(self, model: str, alias: str) -> int | None:
        from mlflow.exceptions import MlflowException

        try:
            return int(self.client.get_model_version_by_alias(model, alias).tags["trueline.version"])
        except MlflowException:
            return None
