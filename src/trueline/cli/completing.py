"""What the shell may offer behind an option or an argument. Nothing here may be slow, and nothing may fail aloud."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from trueline.cli.environment import BY_NAME, PREFERENCES, completed
from trueline.errors import TruelineError
from trueline.settings import StateFolder

MANY = 50
PATIENCE_SECONDS = 1.0


def complete_targets(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the project file's targets."""
    from trueline.projectfile import load

    try:
        return _starting([(name, "") for name in load(_project(context)).targets], incomplete)
    except TruelineError:
        return []


def complete_keys(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The keys of the project file, and the variables."""
    from trueline.projectfile.keys import groups, walk

    keys = [(place.dotted, place.key.help) for place in walk()]
    mappings = [(name, group.help) for name, group in groups() if name]
    return _starting([*mappings, *keys, *((one.variable, one.help) for one in PREFERENCES)], incomplete)


def complete_versions(context: click.Context, _: click.Parameter | None, incomplete: str) -> list[CompletionItem]:
    """The numbers of the newest versions."""
    return _starting(_known(context, ("versions",)), incomplete)


def complete_ids(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Whatever can be asked about: newest versions, runs, releases."""
    return _starting(_known(context, ("versions", "runs", "releases")), incomplete)


def _starting(offered: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(value, help=told or None) for value, told in offered if value.startswith(incomplete)]


def _known(context: click.Context, nouns: tuple[str, ...]) -> list[tuple[str, str]]:
    """Names and states: from the server that runs, else straight from the state folder's database."""
    project = _project(context)
    try:
        with completed(project):
            return _asked(_state(context, project), nouns)
    except TruelineError:
        return []


def _asked(state: StateFolder, nouns: tuple[str, ...]) -> list[tuple[str, str]]:
    from trueline.store import glance

    if state.database.exists():  # quicker than asking a server, and the same rows
        return [one for noun in nouns for one in glance.newest(state.database, noun, MANY)]
    if not state.servers.exists() and not os.environ.get(BY_NAME["url"].variable):
        return []
    from trueline.client import Client

    if not Client.reachable(state):
        return []
    found: list[tuple[str, str]] = []
    with Client.connect(state, timeout=PATIENCE_SECONDS) as client:
        if "versions" in nouns:
            found += [(str(one.number), one.state) for one in client.versions(limit=MANY).items]
        if "runs" in nouns:
            found += [(one.id, one.state) for one in client.runs(limit=MANY).items]
        if "releases" in nouns:
            found += [(one.id, one.state) for one in client.releases(limit=MANY).items]
    return found


def _project(context: click.Context) -> Path:
    from trueline.cli.options import find_project

    given = context.params.get("project")
    return Path(given) if given else find_project(Path.cwd())


def _state(context: click.Context, project: Path) -> StateFolder:
    given = context.params.get("state")
    base = StateFolder(Path(given) if given else project.absolute().parent / ".trueline")
    return base.of(context.params.get("environment"))
