"""The docs are complete: every command, option, setting, key and event is in them, and no more."""

import ast
import importlib.util
import pkgutil
import re
from pathlib import Path

import click
import pytest

import trueline.domain
from trueline.cli.environment import PREFERENCES
from trueline.cli.main import COMMANDS, cli
from trueline.domain.machines import Machine
from trueline.projectfile.keys import LATER, walk

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "text"), generator().pages().items(), ids=lambda value: value[:20])
def test_a_written_page_is_as_it_would_be_written_now(name, text):
    assert (DOCS / name).read_text() == text, "run: python docs/generate.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_the_docs(name):
    page = (DOCS / "cli.md").read_text()
    assert f"## trueline {name}" in page
    command = cli.get_command(click.Context(cli), name)
    for option in (one for one in command.params if isinstance(one, click.Option)):
        assert all(f"`{flag}`" in page for flag in (*option.opts, *option.secondary_opts))


def test_every_key_and_variable_is_in_the_docs():
    page = (DOCS / "project-file.md").read_text()
    assert not [place.dotted for place in walk() if f"`{place.dotted}`" not in page]
    assert not [key for key in LATER if f"`{key}`" not in page]
    assert not [one.variable for one in PREFERENCES if f"`{one.variable}`" not in (DOCS / "cli.md").read_text()]


def machines():
    for found in pkgutil.iter_modules(trueline.domain.__path__):
        module = importlib.import_module(f"trueline.domain.{found.name}")
        yield from (value for value in vars(module).values() if isinstance(value, Machine))


def recorded():
    """The kinds that the source names in calls of `record`; a noun that is not known there is `*`."""
    for path in (ROOT / "src").rglob("*.py"):
        if path.name == "moves.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "record"
                and node.args
            ):
                kind = node.args[0]
                if isinstance(kind, ast.Constant) and isinstance(kind.value, str):
                    yield kind.value
                elif isinstance(kind, ast.JoinedStr):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in kind.values)


def test_every_kind_of_event_is_in_the_docs_and_no_other():
    listed = set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", (DOCS / "events.md").read_text(), re.MULTILINE))
    made = {f"{one.noun}.create" for one in machines()}
    made |= {f"{one.noun}.{event}" for one in machines() for row in one.table.values() for event in row}
    literal = {kind for kind in recorded() if "." in kind}
    open_ended = [re.compile(kind.replace(".", r"\.").replace("*", "[a-z_]+")) for kind in literal if "*" in kind]
    named = made | {kind for kind in literal if "*" not in kind}
    named -= {"incident.create"}  # it is opened by an event of its own
    missing = sorted(named - listed)
    assert not missing, "write them into docs/events.md"
    assert not {kind for kind in listed - named if not any(one.fullmatch(kind) for one in open_ended)}
    assert all(any(one.fullmatch(kind) for kind in listed) for one in open_ended)
