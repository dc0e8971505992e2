"""An input breaks for ten days and is mended: found, named, held, left out of trainings, and over by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pytest
from loop_world import DAY, START, Nature, World

from trueline.domain.incidents import IncidentKind, IncidentState

BREAKS, MENDED, ENDS = 24, 34, 43


@dataclass
class BrokenFeed(Nature):
    """`x` comes in another unit for ten days; what it stands for, and so the label, is what it always was."""

    def draw(self, at: datetime, rows: int, salt: int = 0) -> dict[str, np.ndarray]:
        told = super().draw(at, rows, salt)
        broken = BREAKS <= (at - START) / DAY < MENDED
        return {**told, "x": told["x"] * np.float32(8)} if broken else told


@pytest.fixture(scope="module")
def world(new_world) -> World:
    made = new_world("retrain: {rehearse: 7d, window: 14d}")
    assert made.run() == 1
    made.nature = BrokenFeed()
    made.live(ENDS)
    return made


def test_the_fault_is_named_and_closes_by_itself(world):
    fault = next(one for one in world.incidents() if one.kind is IncidentKind.upstream)
    assert (fault.cause["feature"], fault.cause["slice"], fault.advice) == ("x", "all", "upstream_fault")
    assert fault.cause["since"] == (START + BREAKS * DAY).date().isoformat()
    assert fault.cause["until"] == (START + MENDED * DAY).date().isoformat()
    assert fault.opened_at <= START + (BREAKS + 7) * DAY
    assert fault.state is IncidentState.closed
    assert "x in all is back to what it was" in fault.closed_reason


def test_it_is_the_only_thing_that_pages(world):
    assert [one.kind for one in world.incidents()] == [IncidentKind.upstream]


def test_nothing_is_refitted_or_promoted_while_it_is_there_and_nothing_learns_from_its_rows(world):
    fault = world.incidents()[0]
    assert [event.ref for event in world.events("incident.hold")] == [fault.id]
    during = [event for event in world.events("run.create") if fault.opened_at <= event.at < fault.closed_at]
    assert during == []
    assert [event.detail["version"] for event in world.events("release.promote")] == [1]
    later = [event for event in world.events("run.quarantine") if event.at >= fault.closed_at]
    assert later
    assert all("rows are left out of this training" in event.reason for event in later)


def test_why_ranks_the_suspects_with_their_shares(world):
    told = world.services.why(world.incidents()[0].id)
    first = told.links[0]
    assert (first.noun, first.ref) == ("suspect", "input x in all")
    assert first.facts["share"] > 0.5
    assert "advice upstream_fault" in told.sentence
