"""The loop over forty replayed days: what must happen happens, what must not does not, and twice the same."""

from __future__ import annotations

from datetime import timedelta

import pytest
from loop_world import DAY, START, Nature, World

from trueline.errors import NotAllowed

WEEKLY = "retrain: {rehearse: 7d, window: 7d}"
OFF = "retrain: {rehearse: off}"


def drifting(world: World, *, days: float) -> World:
    """What is predicted creeps up from the first day on."""
    assert world.run() == 1
    world.nature = Nature(level=lambda day: 0.12 * max(day, 0.0))
    world.live(days)
    return world


@pytest.fixture(scope="module")
def drifted(new_world):
    return drifting(new_world(WEEKLY), days=40)


def test_a_refit_is_rehearsed_every_week_and_scores_in_shadow(drifted):
    refits = [event for event in drifted.events("run.create") if event.actor in ("schedule", "alert")]
    asked = [event.at for event in refits if event.actor == "alert"]
    assert len(asked) == 1
    before = [event.at for event in refits if event.at < asked[0]]
    after = [event.at for event in refits if event.at > asked[0]]
    assert before == [START + timedelta(weeks=week) for week in (1, 2)]
    assert after == [asked[0] + timedelta(weeks=week) for week in (1, 2, 3)]
    shadows = [event for event in drifted.events("route.set") if event.actor == "rehearsal"]
    assert len(shadows) == len(refits)


def test_refits_learn_from_the_labels_of_what_was_served(drifted):
    origins = [event.reason for event in drifted.events("dataset.version")]
    assert origins[0].endswith("changed by source")
    assert all(reason.endswith("changed by feedback") for reason in origins[1:])
    assert len(origins) == 7


def test_while_freshness_pays_refits_are_gated_canaried_and_promoted(drifted):
    before = drifted.events("release.promote")[1].at
    steps = [
        e.kind for e in drifted.events() if e.ref == "release-2" or (e.ref == "gate-2" and e.kind == "gate.decide")
    ]
    assert steps == ["gate.decide", "release.create", "release.start_canary", "release.promote", "release.finish"]
    (gate,) = (event for event in drifted.events("gate.decide") if event.ref == "gate-2")
    assert gate.reason.startswith("pass: freshness is shown to pay")
    assert START + 14 * DAY < before < START + 21 * DAY
    status = drifted.services.status()
    assert status.champion is not None
    assert status.champion >= 5
    assert status.freshness.shown
    assert drifted.events("release.roll_back") == []


def test_the_loop_keeps_the_loss_down(drifted):
    """Left alone, the first model would be off by 0.12 a day: 4.8 on the last one."""
    said = [event.reason for event in drifted.events("block.judge")][-7:]
    assert all(float(reason.split()[2]) < 1.4 for reason in said), said


def test_a_curve_says_what_age_costs(drifted):
    curve = drifted.services.staleness()
    assert curve.ages
    assert max(age.ratio for age in curve.ages) > 1.5


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    """A line of the project file."""
    if request.param == "sqlite":
        return ""
    url = request.getfixturevalue("shared_postgresql")
    request.getfixturevalue("postgresql").empty(url)
    return f"database: {url}"


def test_two_runs_tell_the_same_story_on_either_database(drifted, new_world, database):
    again = drifting(new_world(f"{WEEKLY}\n{database}"), days=17)
    told = [line for line in drifted.story() if line[0] <= again.now.isoformat()]
    assert again.story() == told
    assert "release.promote" in {line[1] for line in told[-40:]}


@pytest.fixture(scope="module")
def unlucky(new_world):
    """Five weeks without rehearsal, in which one thing after the other goes wrong."""
    world = new_world(OFF)
    assert world.run() == 1
    world.nature = Nature(x_mean=lambda day: min(max(day - 3, 0.0), 3.0))
    world.live(12)
    world.failing.add(world.run())
    world.live(2)
    bad = world.run(turned=True)
    with pytest.raises(NotAllowed, match="not approved"):
        world.services.start_release(bad, reason="now", actor="kim")
    world.services.waive(bad, reason="only the units changed", actor="kim")
    world.reach(world.now)
    world.live(4)
    world.nature = Nature(x_mean=lambda day: 3.0, level=lambda day: 1.5)  # noqa: ARG005
    world.live(18)
    return world


def test_drift_of_inputs_alone_pages_nobody(unlucky):
    drifted = [block for block in unlucky.blocks() if block.day < (START + 12 * DAY).date().isoformat()]
    assert max(block.evidence["drift"]["x"]["psi"] for block in drifted) > 1
    assert [incident.opened_at for incident in unlucky.incidents() if incident.opened_at < START + 18 * DAY] == []


def test_a_canary_whose_requests_fail_is_rolled_back_within_a_tick(unlucky):
    release = unlucky.services.release("release-2")
    (event,) = (event for event in unlucky.events("release.roll_back") if event.ref == "release-2")
    assert (release.state, release.version, release.previous) == ("rolled_back", 2, 1)
    assert event.reason.startswith("errors: ")
    assert event.at <= START + 12.5 * DAY
    assert 0 < release.requests_answered < 60
    assert release.rollback_ms is not None


def test_a_waived_bad_version_is_rolled_back_by_labelled_loss(unlucky):
    (gate,) = (event for event in unlucky.events("gate.decide") if event.ref == "gate-3")
    assert gate.reason.startswith("fail: ")
    release = unlucky.services.release("release-3")
    (event,) = (event for event in unlucky.events("release.roll_back") if event.ref == "release-3")
    assert (release.state, release.version) == ("rolled_back", 3)
    assert event.reason.startswith("labelled loss of version 3 is +")
    assert event.at <= START + 17 * DAY
    assert "only the units changed" in unlucky.services.why("3").links[1].sentence


def test_the_champion_serves_through_all_of_it(unlucky):
    status = unlucky.services.status()
    assert (status.champion, [route.version for route in status.routes]) == (1, [1])
    assert [event.actor for event in unlucky.events("run.create")] == ["ada"] * 3


def test_a_performance_loss_that_stays_opens_one_incident(unlucky):
    (incident,) = unlucky.incidents()
    assert incident.opened_at > START + 19 * DAY
    assert "worse than promised" in incident.reason
    assert incident.advice == "wait"
    assert len(unlucky.events("incident.open")) == 1
