"""Tokens in people's names: shown once, kept as digests, gone when revoked."""

import json

import pytest

from trueline.errors import InvalidInput, NotAuthenticated, NotFound, Unavailable
from trueline.security import tokens
from trueline.security.people import People


@pytest.fixture
def people(tmp_path):
    return People(tmp_path / "tokens.json")


def test_a_token_says_who_uses_it(people):
    guard = tokens.guard("t" * 16, people=people)
    token = people.issue("ada", frozenset({"read"}))
    ada = guard.identify(f"Bearer {token}")
    assert (ada.name, ada.may("read"), ada.may("release")) == ("ada", True, False)
    assert guard.identify("Bearer " + "t" * 16).name == "local"


def test_a_token_is_kept_as_its_digest_and_only_its_owner_reads_the_file(people):
    token = people.issue("ada")
    assert token not in people.path.read_text()
    assert people.path.stat().st_mode & 0o777 == 0o600
    assert json.loads(people.path.read_text())["ada"]["permissions"] is None


def test_a_new_token_ends_the_one_before_and_a_revoked_one_is_worth_nothing(people):
    guard = tokens.guard("t" * 16, people=people)
    old, new = people.issue("ada"), people.issue("ada")
    with pytest.raises(NotAuthenticated):
        guard.identify(f"Bearer {old}")
    assert guard.identify(f"Bearer {new}").name == "ada"
    people.revoke("ada")
    with pytest.raises(NotAuthenticated):
        guard.identify(f"Bearer {new}")
    with pytest.raises(NotFound, match="nobody called ada has a token here"):
        people.revoke("ada")


@pytest.mark.parametrize("name", ["", " ", "a b", "-x", "x" * 65, "a\nb"])
def test_a_name_is_a_name(people, name):
    with pytest.raises(InvalidInput, match="is not a name"):
        people.issue(name)


def test_a_damaged_file_lets_nobody_in_and_says_so(people):
    people.path.write_text("{")
    with pytest.raises(Unavailable, match="mend or remove the file"):
        tokens.guard("t" * 16, people=people).identify("Bearer " + "x" * 20)
