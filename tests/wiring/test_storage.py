"""The loop with its tables, models and segments in a bucket: the same story, the same digests.

In the bucket's world two machines share the database and the bucket, each with a state folder of its own: one trains
and judges, the other controls, serves and ships.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from loop_world import World

import s3
from trueline.control import artefacts
from trueline.errors import Unavailable
from trueline.pipelines import loop, preparation
from trueline.pipelines.execute import Trainer
from trueline.storage.objects import Objects

DAYS = 2.4
POLICY = "retrain: {rehearse: 2d, window: 7d}"


@pytest.fixture(scope="module")
def bucket():
    with s3.environment(s3.endpoint()):
        yield f"s3://{s3.new_bucket()}/flights"


def lived(world: World) -> World:
    assert world.run() == 1
    world.live(DAYS)
    return world


@pytest.fixture(scope="module")
def local(new_world):
    return lived(new_world(POLICY))


@pytest.fixture(scope="module")
def remote(new_world, bucket, tmp_path_factory):
    shared = tmp_path_factory.mktemp("shared")
    engines = f"database: {shared / 'control.db'}\nstorage: {bucket}\n"
    return lived(new_world(f"{engines}{POLICY}", shared / "worker"))


def objects_of(world: World) -> Objects:
    found = world._context.storage.objects
    assert found is not None
    return found


def test_the_story_is_the_same_in_a_bucket(local, remote):
    told = [line for line in local.story() if line[1] != "project.set"]
    assert [line for line in remote.story() if line[1] != "project.set"] == told
    assert {"release.promote", "block.judge", "dataset.version", "run.succeed"} <= {line[1] for line in told}


def test_so_are_the_digests_of_datasets_and_models(local, remote):
    def digests(world: World):
        versions = {one.number: one.digest for one in world.services.versions(limit=100, after=None)}
        datasets = {one.number: one.digest for one in world.services.datasets(limit=100, after=None)}
        return versions, datasets

    assert digests(remote) == digests(local)
    assert len(digests(remote)[0]) >= 2
    assert len(digests(remote)[1]) >= 2


def test_tables_lie_nowhere_else_and_models_only_where_they_are_needed(remote):
    serving, training = remote._context.folder.root, remote.worker_folder.root
    assert not [*(serving / "tables").iterdir(), *(training / "tables").iterdir()]
    assert (training / "runs" / "run-1" / "spec.json").exists()
    assert {path.name for path in (serving / "runs" / "run-1").iterdir()} == {"model"}
    assert {key.split("/")[0] for key in objects_of(remote).list("")} == {
        "tables",
        "models",
        "beside",
        "runs",
        "journal",
    }


def test_every_shipped_segment_is_kept_before_it_is_deleted(remote):
    kept = sorted(objects_of(remote).list("journal/r0"))
    numbers = [int(key.rsplit("/", 1)[1].split("-")[0]) for key in kept]
    assert numbers == list(range(1, len(numbers) + 1))
    here = sorted(int(path.stem) for path in remote._context.folder.journal("r0").glob("*.seg"))
    assert here[0] > 1
    assert here[0] <= numbers[-1] + 1


def test_what_a_run_said_and_held_out_can_be_had_on_the_other_machine(remote):
    here, there = remote._context, remote.worker_folder.run("run-1")
    assert artefacts.held_out(here, remote.services.version(1)).read_bytes() == (there / "held_out.arrow").read_bytes()
    artefacts.bring_said(here, "run-1")
    folder = here.folder.run("run-1")
    assert (folder / "tracking.jsonl").read_bytes() == (there / "tracking.jsonl").read_bytes()
    assert {"log.txt", "result.json", "spec.json"} < {path.name for path in folder.iterdir()}
    assert not (folder / "rows.arrow").exists()


def test_a_run_waits_for_a_storage_that_is_away_however_long_and_is_trained_once(new_world, monkeypatch):
    world = new_world("retrain: {rehearse: off}")
    trained: list[object] = []
    train = Trainer.train

    def away(owner: Any, name: str) -> None:
        """It cannot be reached for more times than a run that kills its worker is given."""
        do, times = getattr(owner, name), iter(range(loop.MOST_ATTEMPTS + 1))

        def asked(*given: Any) -> Any:
            if next(times, None) is not None:
                raise Unavailable("the table s3://bucket/tables/dataset cannot be read: the service failed")
            return do(*given)

        monkeypatch.setattr(owner, name, asked)

    monkeypatch.setattr(loop, "MOST_ATTEMPTS", 2)
    away(preparation, "prepare")
    away(artefacts, "keep")
    monkeypatch.setattr(loop, "WORK", replace(loop.WORK, retry=timedelta(0)))
    monkeypatch.setattr(Trainer, "train", lambda self, spec: trained.append(spec) or train(self, spec))
    assert world.run() == 1
    said = [event.reason for event in world.events("run.requeue")]
    assert len(said) == 2 * (loop.MOST_ATTEMPTS + 1)
    assert said[0].endswith("the service failed")
    assert len(trained) == 1
