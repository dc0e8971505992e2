import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from trueline.errors import NotAuthenticated, Unavailable
from trueline.security import tokens


@pytest.fixture(autouse=True)
def _no_token_around(monkeypatch):
    monkeypatch.delenv(tokens.VARIABLE, raising=False)


def test_a_token_is_made_once_for_the_owner_only(tmp_path):
    path = tmp_path / "token"
    assert tokens.read(path) is None
    made = tokens.ensure(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert tokens.ensure(path) == tokens.read(path) == made
    assert len(made) > 40
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


def test_two_that_start_at_once_agree(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: tokens.ensure(tmp_path / "token"), range(16)))) == 1


def test_the_environment_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv(tokens.VARIABLE, "from-the-environment")
    assert tokens.ensure(tmp_path / "token") == "from-the-environment"
    assert not (tmp_path / "token").exists()


@pytest.mark.parametrize(
    "weak", ["short", "with spaces in the middle", "newline\nin-the-middle", "ünïcödé-enough-of-it"]
)
def test_a_weak_token_is_refused(weak, tmp_path, monkeypatch):
    with pytest.raises(NotAuthenticated, match="at least 16"):
        tokens.guard(weak)
    monkeypatch.setenv(tokens.VARIABLE, weak)
    with pytest.raises(NotAuthenticated, match=f"the token in {tokens.VARIABLE} needs.*; correct it, or unset it"):
        tokens.read(tmp_path / "token")


def test_an_unreadable_token_file_is_one_sentence(tmp_path):
    with pytest.raises(Unavailable, match="cannot be read"):
        tokens.read(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(Unavailable, match="not text"):
        tokens.read(tmp_path / "binary")
    with pytest.raises(Unavailable, match="cannot be written"):
        tokens.ensure(tmp_path / "no" / "folder" / "token")


def test_a_guard_tells_tokens_apart():
    guard = tokens.TokenGuard(
        {"first-token-of-two-1": tokens.Principal("a"), "second-token-of-two": tokens.Principal("b")}
    )
    assert guard.identify("Bearer first-token-of-two-1").name == "a"
    assert guard.identify("Bearer second-token-of-two").name == "b"
    for wrong in (None, "", "Basic x", "first-token-of-two-1", "Bearer ", "Bearer second-token-of-tw"):
        with pytest.raises(NotAuthenticated):
            guard.identify(wrong)


def test_a_principal_without_a_list_may_everything():
    assert tokens.Principal("owner").may("release")
    assert not tokens.Principal("guest", frozenset({"read"})).may("release")
    assert tokens.OwnerGuard().identify(None).may("release")
