"""Flags win over the environment, that over .env, that over the user's config, that over the default."""

import os

import pytest

from trueline.cli import environment
from trueline.cli.environment import completed, dotenv
from trueline.errors import InvalidProject

FACTS = "version: 1\nproject: p\ndata: {source: a.csv, target: y}\ntrain: model.py:fit\ntargets: {dev: {}, prod: {}}\n"


@pytest.fixture(autouse=True)
def _own_config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("TRUELINE_TARGET", "DATABASE_URL", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config" / "trueline" / "config.yaml"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def said(trueline, tmp_path):
    """The value of one setting and where it came from, as `explain` says."""
    (tmp_path / "trueline.yaml").write_text(FACTS)

    def ask(name, *arguments):
        (one,) = trueline("explain", name, "--json", *arguments).json
        return one["value"], one["source"]["kind"], one["source"]["at"]

    return ask


def test_each_place_wins_over_those_behind_it(said, tmp_path, config, monkeypatch):
    name = "TRUELINE_TARGET"
    assert said(name)[1:] == ("default", "")
    config.write_text("# mine\ntarget: dev\n")
    assert said(name) == ("dev", "user config", f"{config}:2")
    (tmp_path / ".env").write_text("\nTRUELINE_TARGET=prod\n")
    assert said(name) == ("prod", ".env", ".env:2")
    monkeypatch.setenv(name, "dev")
    assert said(name) == ("dev", "environment", "TRUELINE_TARGET")
    assert said(name, "--target", "prod") == ("prod", "flag", "--target")


@pytest.mark.parametrize(("flag", "variable"), [("--state", "TRUELINE_STATE"), ("--project", "TRUELINE_PROJECT")])
def test_places_are_explained_too(flag, variable, said, tmp_path):
    path = {"--state": str(tmp_path / "elsewhere"), "--project": str(tmp_path / "trueline.yaml")}[flag]
    assert said(variable)[1] == "default"
    assert said(variable, flag, path) == (path, "flag", flag)


def test_a_state_folder_from_dot_env_is_used_as_one_from_a_flag(said, tmp_path):
    (tmp_path / ".env").write_text(f"TRUELINE_STATE={tmp_path}/far\n")
    assert said("TRUELINE_STATE") == (f"{tmp_path}/far", ".env", ".env:1")


def test_a_token_is_never_shown(said, config):
    config.write_text("token: file:secret\nurl: http://ann:pw@host\n")
    (config.parent / "secret").write_text("tl-1234\n")
    assert said("TRUELINE_TOKEN")[:2] == ("***", "user config")
    assert said("TRUELINE_URL")[0] == "http://ann:***@host"


def test_the_environment_is_as_it_was_when_a_command_has_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("HERE", "mine")
    (tmp_path / ".env").write_text("DATABASE_URL=x\nHERE=other\nTRUELINE_PROJECT=elsewhere.yaml\n")
    with completed(tmp_path / "trueline.yaml") as found:
        assert (os.environ["DATABASE_URL"], os.environ["HERE"]) == ("x", "mine")
        assert "TRUELINE_PROJECT" not in os.environ
        assert found == {"DATABASE_URL": ".env:1"}
    assert "DATABASE_URL" not in os.environ


def test_a_reference_finds_what_dot_env_says(trueline, tmp_path):
    (tmp_path / "trueline.yaml").write_text(FACTS + "database: env:DATABASE_URL\n")
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://ann:s3cret@db/flights\n")
    said = trueline("explain", "database")
    assert "means    postgresql://ann:***@db/flights" in said.out
    (tmp_path / ".env").unlink()
    assert "DATABASE_URL is not set" in trueline("explain", "database").out


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("export A=b", "b"),
        ("A = b ", "b"),
        ("A=", ""),
        ("A='b # c'", "b # c"),
        ('A="b c"  # why', "b c"),
        ("A=b # why", "b"),
        ("A=b=c", "b=c"),
        ("A=postgresql://u:p@h/d?a=1&b=2", "postgresql://u:p@h/d?a=1&b=2"),
        ("A=${HOME}", "${HOME}"),
    ],
)
def test_a_line_of_dot_env(line, value, tmp_path):
    (tmp_path / ".env").write_text(f"# first\n\n{line}\n")
    assert dotenv(tmp_path / ".env") == {"A": (value, ".env:3")}


@pytest.mark.parametrize("line", ["A", "A b", "1A=b", 'A="b', "A='b' c", 'A="b\\"c"', "=b"])
def test_what_is_not_understood_in_dot_env_is_told_with_its_line(line, tmp_path):
    (tmp_path / ".env").write_text(f"B=1\n{line}\n")
    with pytest.raises(InvalidProject, match=r"\.env:2: expected NAME=value"):
        dotenv(tmp_path / ".env")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tokn: a\n", "config.yaml:1: tokn: there is no such key; did you mean token?"),
        ("state: /tmp\n", "config.yaml:1: state: there is no such key; known here: target, url"),
        ("- a\n", "expected a mapping of keys to values"),
        ("url: []\n", "url: expected a text"),
        ("token: env:NOT_SET_ANYWHERE\n", "the environment variable NOT_SET_ANYWHERE is not set"),
        ("a: [\n", "this is not valid YAML"),
        (b"\xff", "cannot be read (it is not UTF-8 text)"),
    ],
)
def test_a_wrong_config_is_one_sentence(text, problem, config, trueline, tmp_path):
    (tmp_path / "trueline.yaml").write_text(FACTS)
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = trueline("explain", "task")
    assert said.code == 2
    assert problem in said.err


@pytest.mark.parametrize(("text", "found"), [("", {}), ("no_color: true\n", {"NO_COLOR"}), ("no_color: false\n", {})])
def test_colours_may_be_switched_off_for_good(text, found, config):
    config.write_text(text)
    assert environment.config(config).keys() == set(found)
