"""What a person does between two rounds of control."""

from __future__ import annotations

import pytest

from trueline.errors import Conflict


def test_a_release_that_waits_is_promoted_over_one_that_is_only_watched(new_world):
    world = new_world("retrain: {rehearse: off}")
    assert world.run() == 1
    second = world.run(turned=True)
    world.services.waive(second, reason="only the units changed", actor="kim")
    before, waiting = (world.services.release(f"release-{number}").state for number in (1, 2))
    assert (before, waiting) == ("promoted", "pending")
    done = world.services.promote("release-2", reason="launch day", actor="kim")
    assert (done.state, done.previous, world.services.status().champion) == ("promoted", 1, second)
    assert world.services.release("release-1").state == "done"
    (end,) = world.events("release.finish")
    assert (end.actor, end.ref) == ("kim", "release-1")
    assert end.reason == "release-2 of version 2 is promoted by hand: launch day: the watch over this one ends"
    world.reach(world.now)
    assert world.services.status().champion == second
    with pytest.raises(Conflict, match="release-2 is under way"):
        world.services.promote("release-1", reason="no, that one", actor="kim")
    world.services.roll_back(version=None, reason="no", actor="kim")
    assert world.services.status().champion == 1
