"""Who must agree before a version is released: each person once, only those who are named, only after the gate."""

import pytest
from judging import judged

from trueline.control import approvals, events, gates, releases, runs, status
from trueline.domain.project import Approve
from trueline.domain.releases import Release
from trueline.domain.verdicts import Verdict
from trueline.domain.versions import VersionState
from trueline.errors import Conflict, NotAllowed
from trueline.store import rows

TWO_OF_THREE = Approve(("ada", "bob", "cy"), 2)


def say_yes(store, version, actor, policy=TWO_OF_THREE):
    with store.begin() as tx:
        approvals.give(tx, "p", version, policy, actor=actor, reason="seen")


def look(store, version):
    with store.read() as tx:
        return runs.version(tx, "p", version), rows.find(tx, Release)


def test_a_passed_gate_waits_for_the_people_it_names(store, trained):
    version = trained()
    judged(store, version, Verdict.passed, approve=TWO_OF_THREE)
    found, released = look(store, version)
    assert (found.state, released) == (VersionState.candidate, [])
    assert found.waiting == "waits for 2 of these to approve: ada, bob, cy"
    say_yes(store, version, "bob")
    assert look(store, version)[0].waiting == "waits for 1 of these to approve: ada, cy"
    say_yes(store, version, "ada")
    found, released = look(store, version)
    assert (found.state, found.waiting, len(released)) == (VersionState.approved, None, 1)


def test_saying_yes_twice_counts_once(store, trained):
    version = trained()
    judged(store, version, Verdict.passed, approve=TWO_OF_THREE)
    say_yes(store, version, "ada")
    say_yes(store, version, "ada")
    assert look(store, version)[0].state is VersionState.candidate
    with store.read() as tx:
        assert [event.actor for event in events.after(tx, "p", 0, limit=100, kind="version.approval")] == ["ada"]


def test_only_those_who_are_named_may_approve(store, trained):
    version = trained()
    judged(store, version, Verdict.passed, approve=TWO_OF_THREE)
    with pytest.raises(NotAllowed, match=r"eve may not approve here; gates\.approve\.by names ada, bob, cy"):
        say_yes(store, version, "eve")


def test_a_yes_comes_after_the_gate_and_not_to_a_failed_one(store, trained):
    version = trained()
    with pytest.raises(Conflict, match="has not decided yet"):
        say_yes(store, version, "ada")
    judged(store, version, Verdict.failed, approve=TWO_OF_THREE)
    with pytest.raises(Conflict, match="says fail: because; there is nothing to approve"):
        say_yes(store, version, "ada")


def test_a_project_that_asks_nobody_says_so(store, trained):
    version = trained()
    judged(store, version, Verdict.passed, approve=Approve())
    with pytest.raises(Conflict, match="asks for no approvals"):
        say_yes(store, version, "ada", Approve())


def test_a_waiver_is_its_authors_yes_and_still_needs_the_others(store, trained):
    version = trained()
    judged(store, version, Verdict.inconclusive, approve=TWO_OF_THREE)
    with store.begin() as tx, pytest.raises(NotAllowed, match="eve may not approve"):
        gates.waive(tx, "p", version, actor="eve", reason="why not", approve=TWO_OF_THREE)
    with store.begin() as tx:
        gates.waive(tx, "p", version, actor="ada", reason="the rows are old", approve=TWO_OF_THREE)
    found, released = look(store, version)
    assert (found.state, released) == (VersionState.candidate, [])
    assert found.waiting == "waits for 1 of these to approve: bob, cy"
    say_yes(store, version, "cy")
    found, released = look(store, version)
    assert (found.state, [release.vouched for release in released]) == (VersionState.approved, [False])


def test_a_version_that_was_not_asked_to_be_released_is_only_approved(store, trained):
    version = trained(release=False)
    judged(store, version, Verdict.passed, approve=Approve(("ada",), 1))
    say_yes(store, version, "ada", Approve(("ada",), 1))
    found, released = look(store, version)
    assert (found.state, released) == (VersionState.approved, [])


def test_who_is_no_longer_named_no_longer_counts(store, trained):
    version = trained()
    judged(store, version, Verdict.passed, approve=TWO_OF_THREE)
    say_yes(store, version, "ada")
    say_yes(store, version, "dan", Approve(("bob", "dan"), 2))
    assert look(store, version)[0].waiting == "waits for 1 of these to approve: bob"


def test_status_and_a_release_asked_for_too_early_say_who_has_to_approve(store, trained):
    version = trained()
    judged(store, version, Verdict.passed, approve=TWO_OF_THREE)
    said = f"version {version} waits for 2 of these to approve"
    with store.begin() as tx:
        found = status.take(tx, "p", idle=True, replaying=False, freshness=None)
        with pytest.raises(NotAllowed, match="is not approved: it waits for 2 of these"):
            releases.request(tx, "p", version, vouched=False, actor="ada", reason="now")
    assert found.sentence.startswith(f"nothing serves yet; {said}")
