"""The edge: help, exit codes, and what starting up imports."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from trueline.cli.main import COMMANDS, LazyGroup, cli
from trueline.client import Client
from trueline.errors import TruelineError

HEAVY = {"sqlalchemy", "mlflow", "pandas", "sklearn", "polars", "numpy", "starlette", "uvicorn", "onnxruntime"}


def loaded(code):
    """The heavy modules that a fresh interpreter holds after running `code`."""
    asked = f"import sys, json\n{code}\nsys.stderr.write(json.dumps(sorted(m for m in sys.modules if '.' not in m)))"
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    return HEAVY & set(json.loads(ran.stderr))


@pytest.mark.parametrize("module", ["trueline", "trueline.client", "trueline.cli.main", "trueline.cli.status"])
def test_importing_it_loads_nothing_heavy(module):
    assert not loaded(f"import {module}")


def test_importing_the_model_server_loads_no_database_and_no_training_library():
    assert not loaded("import trueline.serving") & {"sqlalchemy", "mlflow", "pandas", "sklearn", "polars"}


@pytest.mark.parametrize("arguments", [["--help"], ["up", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    assert not loaded(f"from trueline.cli.main import main; main({arguments!r})")


def test_the_program_is_the_module_too():
    ran = subprocess.run([sys.executable, "-m", "trueline", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"trueline \d+\.\d+\.\d+.*\n", ran.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_and_an_example_and_the_help_that_the_list_shows(name, trueline):
    command = cli.get_command(click.Context(cli), name)
    assert command.name == name
    assert command.get_short_help_str(limit=200) == COMMANDS[name][1]
    said = trueline(name, "--help")
    assert said.code == 0
    assert "--json" in said.out
    assert re.search(rf"Examples:\n +trueline {name}", said.out)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "demo"])
def test_every_command_can_be_pointed_elsewhere_and_hushed(name, trueline):
    said = trueline(name, "--help")
    for option in ("-f, --project", "--state", "-q, --quiet", "--no-color"):
        assert option in said.out


def test_the_list_of_commands_is_the_help(trueline):
    said = trueline("--help")
    for name, (_, help_) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(help_)}$", said.out, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["run", "--nonsense"], ["release", "x", "--reason", "r"], ["rollback"]]
)
def test_wrong_use_ends_with_two_and_a_sentence(arguments, trueline):
    said = trueline(*arguments)
    assert said.code == 2
    assert "Error: " in said.err
    assert not said.out


def test_a_mistake_is_a_sentence_and_not_a_traceback(trueline):
    said = trueline("status")
    assert said.code == 2
    assert said.err.startswith("trueline: there is no project file")
    assert "trueline init" in said.err
    assert "Traceback" not in said.err


KINDS = TruelineError.__subclasses__()


@pytest.mark.parametrize("kind", [TruelineError, *KINDS])
def test_every_error_ends_with_its_exit_code(kind, trueline, monkeypatch, project):
    def refuse(*_):
        raise kind("because")

    monkeypatch.setattr(Client, "local", staticmethod(refuse))
    said = trueline("status", "--project", project)
    assert (said.code, said.err) == (kind.exit_code, "trueline: because\n")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_command_with_their_codes(signum, code, served, state):
    served.start_run(fit=None, params={}, source=None, release=True, reason="one", actor="x")
    command = [sys.executable, "-m", "trueline", "events", "--follow", "--state", str(state.root)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PYTHONUNBUFFERED": "1"}
    ) as following:
        assert b"run.create" in following.stdout.readline()
        following.send_signal(signum)
        assert following.wait(20) == code
        assert b"Traceback" not in following.stderr.read()


def test_the_group_knows_only_its_table():
    assert isinstance(cli, LazyGroup)
    assert cli.get_command(click.Context(cli), "nonsense") is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["schema"], ["explain"], ["explain", "--json"]])
def test_a_full_disk_under_stdout_is_one_sentence(arguments, tmp_path):
    (tmp_path / "trueline.yaml").write_text(
        "version: 1\nproject: p\ndata: {source: a.csv, target: y}\ntrain: m.py:fit\n"
    )
    command = [sys.executable, "-m", "trueline", *arguments]
    with open("/dev/full", "w") as full:  # noqa: PTH123 a device
        ran = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (
        6,
        "trueline: stdout cannot be written (No space left on device); see to where it goes\n",
    )


@pytest.mark.parametrize("arguments", [["schema"], ["explain"]])
def test_a_stdout_that_is_closed_gets_nothing(arguments, tmp_path):
    (tmp_path / "trueline.yaml").write_text(
        "version: 1\nproject: p\ndata: {source: a.csv, target: y}\ntrain: m.py:fit\n"
    )
    command = " ".join([sys.executable, "-m", "trueline", *arguments, ">&-"])
    ran = subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
