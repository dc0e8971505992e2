"""Every transaction and every side effect of every workflow, killed there once and twice: it ends as if nothing had been."""

from __future__ import annotations

import time

import pytest
from crash_points import Counts, Enumeration, Story

pytestmark = pytest.mark.real

RUN = {"fit": None, "params": {}, "source": None, "release": True, "reason": "asked", "actor": "ada"}
ASKED = {"reason": "asked", "actor": "ada"}
STORIES = {
    "a first run, to the version that serves": Story(
        "nothing is there", lambda one: one.services.start_run(**RUN), "select 1 from runs where id = 'run-1'"
    ),
    "a second one, to its canary": Story(
        "the first version serves", lambda one: one.services.start_run(**RUN), "select 1 from runs where id = 'run-2'"
    ),
    "a canary that does well is promoted": Story("a canary does well"),
    "a canary that fails is rolled back": Story("a canary fails"),
    "a promotion by hand": Story(
        "a canary begins",
        lambda one: one.services.promote("release-2", **ASKED),
        "select 1 from releases where id = 'release-2' and state = 'promoted'",
    ),
    "a rollback by hand": Story(
        "it is watched",
        lambda one: one.services.roll_back(version=None, **ASKED),
        "select 1 from releases where id = 'release-2' and state = 'rolled_back'",
    ),
    "days are evaluated and judged, and a refit begins": Story("blocks are due", doubles=25),
    "an incident opens, and the watch ends": Story("a bad day is next", doubles=25),
    "a version that was rejected is waived": Story(
        "a version was rejected",
        lambda one: one.services.waive(3, **ASKED),
        "select 1 from gates where version = 3 and waived_by is not null",
    ),
    "a person's hold is imported": Story("a person holds the endpoint"),
    "a release ends a hold": Story(
        "a hold is known",
        lambda one: one.services.waive(3, **ASKED),
        "select 1 from gates where version = 3 and waived_by is not null",
    ),
}


@pytest.fixture(scope="module")
def watched(story):
    story[0].watch_statements()
    return story


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", STORIES)
def test_a_workflow_that_is_killed_anywhere_ends_as_if_it_had_not_been(name, watched, capsys):
    world, moments = watched
    counts = Counts()
    began = time.process_time()
    story = STORIES[name]
    Enumeration(world, story, moments[story.scene], counts).run()
    assert counts.single > 10
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{name}: {counts.single} crashes, {counts.double} double ones, {counts.worlds} different worlds finished, "
            f"{counts.absorbed} with an effect repeated and absorbed, {time.process_time() - began:.1f} s"
        )
