from __future__ import annotations

import stat
import sys
from pathlib import Path

import click
import polars as pl
import pytest

from trueline.demo import program, work
from trueline.demo.flights import Flights
from trueline.demo.work import PROJECT, prepare, project_folder
from trueline.errors import InvalidProject, Unavailable
from trueline.projectfile import load
from trueline.replaying import server
from trueline.replaying.server import Server


def test_the_work_folder_is_a_project_as_a_user_would_have_it(drawn: Flights, tmp_path: Path):
    made = prepare(tmp_path / "work", drawn)
    tmp_path = made.folder
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*PROJECT, "data"])
    assert pl.read_parquet(tmp_path / "data" / "january.parquet").equals(drawn.january)
    project = load(tmp_path / "trueline.yaml")
    assert (project.name, project.train, project.data.entity) == ("flight-times", "model.py:fit", "flight_id")
    assert made.state.root == tmp_path / ".trueline"


def test_a_package_without_the_project_says_where_to_run_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(work, "__file__", str(tmp_path / "a" / "b" / "c" / "work.py"))
    with pytest.raises(InvalidProject, match="from a clone of the repository"):
        project_folder()


def fake_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Server:
    """A `trueline up` that is a few lines of shell."""
    command = tmp_path / "python"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(command))
    return Server(server.Work(tmp_path))


def test_the_servers_addresses_are_its_first_line(tmp_path, monkeypatch):
    line = '{"control": "http://127.0.0.1:1", "serve": "http://127.0.0.1:2", "pid": 3}'
    up = fake_up(tmp_path, monkeypatch, f"echo '{line}'\nexec sleep 60")
    try:
        assert up.wait().serve == "http://127.0.0.1:2"
    finally:
        up.stop()


def test_a_server_that_ends_at_once_is_told_in_its_own_words(tmp_path, monkeypatch):
    up = fake_up(tmp_path, monkeypatch, "echo 'trueline: port 1 is in use' >&2\nexit 6")
    with pytest.raises(Unavailable, match="exit code 6; it said: trueline: port 1 is in use"):
        up.wait()
    up.stop()


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE", 0.3)
    up = fake_up(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(Unavailable, match="did not come up in time"):
        up.wait()
    up.stop()


def test_the_folder_is_gone_after_a_replay_that_failed(drawn, monkeypatch):
    made: list[Path] = []

    def refuse(folder: Path, _drawn: Flights) -> None:
        made.append(folder)
        raise Unavailable("no")

    monkeypatch.setattr(program, "prepare", refuse)
    with pytest.raises(Unavailable):
        program.live_through(drawn, tick=program.timedelta(hours=1))
    assert not made[0].exists()


def test_a_flag_that_is_none_is_a_usage_error():
    with pytest.raises(click.UsageError, match="--fast"):
        program.main(["--fast"])


def test_help_tells_the_flags(capsys):
    program.main(["--help"])
    told = capsys.readouterr().out
    assert all(flag in told for flag in ("--json", "--pace", "--keep", "--seed"))
