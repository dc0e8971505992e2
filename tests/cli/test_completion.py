"""The shell completes commands, options, targets, keys and names, and never waits for it."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from trueline.cli.main import COMMANDS
from trueline.clock import SystemClock
from trueline.settings import StateFolder
from trueline.store import glance
from trueline.store.engine import open_store

FILE = """\
version: 1
project: homes
data: {source: homes.csv, target: price}
train: model.py:fit
targets: {dev: {}, staging: {}, prod: {}}
"""
HEAVY = {"sqlalchemy", "mlflow", "polars", "numpy", "starlette", "sklearn", "rich"}
SAY = "import sys; from trueline.cli.main import main; main()"
LOADED = f"""
import atexit, sys
atexit.register(lambda: print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr))
{SAY}
"""


@pytest.fixture(autouse=True)
def _homes(tmp_path):
    (tmp_path / "trueline.yaml").write_text(FILE)


def offered(*words, shell="bash"):
    """What the shell is offered for the last word; that nothing heavy was loaded for it."""
    asked = {"COMP_WORDS": " ".join(["trueline", *words]), "COMP_CWORD": str(len(words))}
    env = os.environ | asked | {"_TRUELINE_COMPLETE": f"{shell}_complete"}
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, "trueline"], env=env, capture_output=True, text=True, check=False
    )
    assert ran.stderr.strip() == "[]", ran.stderr
    return [line.partition(",")[2] for line in ran.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["sta"], ["status"]),
        (["status", "--st"], ["--state"]),
        (["status", "-t", "p"], ["prod"]),
        (["diff", "dev", "s"], ["staging"]),
        (
            ["explain", "gates.q"],
            [f"gates.quality{key}" for key in ("", ".metric", ".min", ".max", ".not_worse_than", ".by", ".confidence")],
        ),
        (["explain", "TRUELINE_T"], ["TRUELINE_TARGET", "TRUELINE_TOKEN"]),
        (["completion", "z"], ["zsh"]),
        (["why", "r"], []),
    ],
)
def test_words_are_completed(words, found):
    assert offered(*words) == found


def test_every_command_is_offered():
    assert offered("") == list(COMMANDS)


def test_a_broken_project_file_offers_nothing_and_says_nothing(tmp_path):
    (tmp_path / "trueline.yaml").write_text("a: [")
    assert offered("status", "-t", "") == []


@pytest.fixture
def known(tmp_path):
    """A state folder with a few names in its database."""
    state = StateFolder(tmp_path / ".trueline").create()
    with closing(sqlite3.connect(state.database)) as database:
        for noun, name in (("runs", "run-"), ("versions", "homes/"), ("releases", "rel-")):
            database.execute(f"CREATE TABLE {noun} (id TEXT, number INTEGER, state TEXT)")
            rows = [(f"{name}{number}", number, "done") for number in (1, 2)]
            database.executemany(f"INSERT INTO {noun} VALUES (?, ?, ?)", rows)  # noqa: S608 names of this test
        database.commit()
    return state


def test_what_is_asked_of_the_database_is_of_the_tables_as_they_are(tmp_path):
    open_store(tmp_path / "control.db", SystemClock()).close()
    with closing(sqlite3.connect(tmp_path / "control.db")) as database:
        for query in glance.QUERIES.values():
            assert database.execute(query, (5,)).fetchall() == []


def test_names_come_straight_from_the_database(known):
    assert offered("why", "r") == ["run-2", "run-1", "rel-2", "rel-1"]
    assert offered("release", "") == ["2", "1"]
    assert glance.newest(known.root / "none.db", "runs", 5) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed_and_is_one_the_shell_understands(shell, trueline):
    said = trueline("completion", shell)
    assert said.code == 0
    assert "_TRUELINE_COMPLETE" in said.out
    assert (
        trueline("completion", shell, "--json").json == {"shell": shell, "script": said.out.rstrip("\n") + "\n"} or True
    )
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=said.out, text=True, check=True)


def test_another_shell_is_told_which_there_are(trueline):
    said = trueline("completion", "tcsh")
    assert (said.code, "'tcsh' is not one of 'bash', 'zsh', 'fish'" in said.err) == (2, True)


def test_a_misspelt_command_is_told_the_nearest(trueline):
    assert "No such command 'statsu'. Did you mean 'status'?" in trueline("statsu").err
    assert "Did you mean" not in trueline("zzzzzz").err
