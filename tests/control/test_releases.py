"""From a gate's verdict to the route table and back: every move with its event, in one transaction."""

from datetime import timedelta

import pytest
from judging import judged

from trueline.control import endpoints, events, gates, releases, runs
from trueline.domain.releases import Release, ReleaseEvent, ReleaseState
from trueline.domain.routes import Arm
from trueline.domain.verdicts import Verdict
from trueline.domain.versions import VersionState
from trueline.errors import Conflict, NotAllowed
from trueline.store import outbox, rows


def newest_release(store):
    with store.read() as tx:
        return rows.first(tx, Release, newest=True)


def promoted(store, scene, version):
    judged(store, version, Verdict.passed)
    release = newest_release(store)
    with store.begin() as tx:
        releases.promote(tx, scene, release, actor="control", reason="nothing serves yet")
    return release


def routes(store):
    with store.read() as tx:
        return {route.version: (route.arm, route.weight) for route in endpoints.get(tx, "p").table.routes}


def test_a_passed_gate_approves_the_version_and_queues_its_release(store, trained):
    version = trained()
    judged(store, version, Verdict.passed)
    release = newest_release(store)
    assert (release.version, release.state, release.vouched) == (version, ReleaseState.pending, True)
    with store.read() as tx:
        assert runs.version(tx, "p", version).state is VersionState.approved


def test_a_failed_gate_rejects_and_queues_nothing(store, trained):
    version = trained()
    judged(store, version, Verdict.failed)
    assert newest_release(store) is None
    with store.begin() as tx, pytest.raises(NotAllowed, match="is not approved"):
        releases.request(tx, "p", version, vouched=False, actor="ada", reason="please")


def test_an_inconclusive_gate_leaves_the_version_a_candidate(store, trained):
    version = trained()
    judged(store, version, Verdict.inconclusive)
    with store.read() as tx:
        assert runs.version(tx, "p", version).state is VersionState.candidate


def test_a_waiver_is_recorded_and_vouches_for_nothing(store, scene, trained):
    promoted(store, scene, trained())
    bad = trained()
    judged(store, bad, Verdict.failed)
    with store.begin() as tx:
        gate = gates.waive(tx, "p", bad, actor="bob", reason="the test data is old")
    assert (gate.waived_by, gate.waiver) == ("bob", "the test data is old")
    assert newest_release(store).vouched is False
    with store.begin() as tx, pytest.raises(Conflict):
        gates.waive(tx, "p", bad, actor="bob", reason="again")


def test_a_passed_gate_cannot_be_waived(store, trained):
    version = trained()
    judged(store, version, Verdict.passed)
    with store.begin() as tx, pytest.raises(Conflict, match="nothing to waive"):
        gates.waive(tx, "p", version, actor="bob", reason="why not")


def test_the_first_release_gets_all_traffic_and_a_route_intent(store, scene, trained):
    version = trained()
    promoted(store, scene, version)
    assert routes(store) == {version: (Arm.champion, 1.0)}
    with store.read() as tx:
        assert [intent.payload["epoch"] for intent in outbox.pending(tx, "p", ("route",))] == [1]


def test_a_canary_shares_traffic_is_widened_and_rolled_back(store, scene, trained, clock):
    first = trained()
    release = promoted(store, scene, first)
    with store.begin() as tx:
        releases.finish(tx, scene, rows.get(tx, Release, release.id), actor="control", reason="watched long enough")
    second = trained()
    judged(store, second, Verdict.passed)
    release = newest_release(store)
    with store.begin() as tx:
        evidence = {"weight": 0.1}
        event = ReleaseEvent.start_canary
        releases.begin(tx, scene, release, event=event, step=0, evidence=evidence, actor="control", reason="r")
    assert routes(store) == {first: (Arm.champion, 0.9), second: (Arm.canary, 0.1)}
    release = newest_release(store)
    with store.begin() as tx:
        releases.advance(tx, scene, release, event=ReleaseEvent.widen, step=1, weight=0.5, actor="control", reason="r")
    assert routes(store)[second] == (Arm.canary, 0.5)
    with store.begin() as tx:
        releases.roll_back(tx, scene, release, actor="control", reason="worse")
    assert routes(store) == {first: (Arm.champion, 1.0)}
    clock.advance(timedelta(milliseconds=40))
    with store.begin() as tx:
        releases.acknowledged(tx, "p", endpoints.get(tx, "p").table.epoch)
    assert newest_release(store).rollback_ms == 40.0
    with store.read() as tx:
        kinds = [event.kind for event in events.about(tx, "p", release.id)]
    assert kinds == ["release.create", "release.start_canary", "release.widen", "release.roll_back", "release.restored"]


def test_a_promoted_release_can_be_taken_back_while_it_is_watched(store, scene, trained):
    first, second = trained(), None
    release = promoted(store, scene, first)
    with store.begin() as tx:
        releases.finish(tx, scene, rows.get(tx, Release, release.id), actor="control", reason="watched")
    second = trained()
    release = promoted(store, scene, second)
    assert routes(store) == {first: (Arm.shadow, 0.0), second: (Arm.champion, 1.0)}
    release = newest_release(store)
    with store.begin() as tx:
        releases.roll_back(tx, scene, release, actor="control", reason="labels say worse")
    assert routes(store) == {first: (Arm.champion, 1.0)}
    with store.read() as tx:
        assert endpoints.get(tx, "p").champion == first


def test_the_first_release_cannot_be_rolled_back(store, scene, trained):
    promoted(store, scene, trained())
    release = newest_release(store)
    with store.begin() as tx, pytest.raises(Conflict, match="no earlier version"):
        releases.roll_back(tx, scene, release, actor="ada", reason="oops")


def test_a_waiting_release_is_superseded_by_a_newer_one(store, scene, trained):
    promoted(store, scene, trained())
    older, newer = trained(), trained()
    judged(store, older, Verdict.passed)
    waiting = newest_release(store)
    judged(store, newer, Verdict.passed)
    with store.read() as tx:
        assert rows.get(tx, Release, waiting.id).state is ReleaseState.aborted
    assert newest_release(store).version == newer


def test_a_hold_set_on_the_server_is_imported_and_kept_until_the_next_release(store, scene, trained):
    first, second = trained(), trained()
    release = promoted(store, scene, first)
    with store.begin() as tx:
        releases.finish(tx, scene, rows.get(tx, Release, release.id), actor="control", reason="watched")
    promoted(store, scene, second)
    with store.begin() as tx:
        table = endpoints.get(tx, "p").table
        endpoints.import_hold(tx, "p", table.only(first, epoch=table.epoch + 1, hold=True))
    with store.begin() as tx:
        endpoint = endpoints.get(tx, "p")
        assert (endpoint.champion, endpoint.table.hold) == (first, True)
        epoch = endpoints.route(tx, "p", scene.folder, None, actor="control", reason="tick")
        assert epoch == endpoint.table.epoch
