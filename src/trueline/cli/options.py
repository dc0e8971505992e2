"""The options every command has, declared once, and the session they make."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trueline.cli.completing import complete_targets
from trueline.cli.environment import BY_NAME, completed
from trueline.cli.output import Output
from trueline.errors import InvalidProject
from trueline.settings import StateFolder

if TYPE_CHECKING:  # importing the client costs most of a command's start
    from trueline.client import Client

PROJECT_FILE = "trueline.yaml"


def _told(name: str) -> str:
    """The help of an option whose preference is declared in `environment`."""
    return f"{BY_NAME[name].help.rstrip('.')}; default {BY_NAME[name].default}."


_OPTIONS = (
    click.option(
        "-f",
        "--project",
        type=click.Path(path_type=Path),
        envvar=BY_NAME["project"].variable,
        help=_told("project"),
    ),
    click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        envvar=BY_NAME["state"].variable,
        help=_told("state"),
    ),
    click.option("--json", "as_json", is_flag=True, help="Print data as JSON on stdout."),
    click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
    click.option("--no-color", is_flag=True, help="Plain text; NO_COLOR does the same."),
)

_TARGET = click.option(
    "-t",
    "--target",
    "environment",
    metavar="NAME",
    envvar=BY_NAME["target"].variable,
    help=_told("target"),
    shell_complete=complete_targets,
)


@dataclass(frozen=True)
class Session:
    """Where a command works and how it speaks. `state` is the folder of the target."""

    project: Path
    state: StateFolder
    out: Output
    target: str | None = None
    base: StateFolder | None = None  # the folder that the targets' folders are in
    found: Mapping[str, str] = field(default_factory=dict)  # variables of .env and the user's config, with their places

    def at(self, target: str | None) -> Session:
        """The same, at another target."""
        base = self.base or self.state
        return replace(self, state=base.of(target), target=target, base=base)

    def need_project(self) -> Path:
        """The project file, which must be there."""
        if not self.project.is_file():
            raise InvalidProject(
                f"there is no project file {self.project}; make one with `trueline init`, or name it with --project"
            )
        return self.project

    def client(self, *, timeout: float = 30.0) -> Client:
        """The running server's client, or one that works in this process when none runs."""
        from trueline.client import Client

        if Client.reachable(self.state):
            return Client.connect(self.state, timeout=timeout)
        return Client.local(self.need_project(), self.state, self.target)


def with_session(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the common options to a command and hand it a `Session` instead."""
    return _TARGET(_with_session(command, targeted=True))


def without_target(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a command that makes, or needs, no target."""
    return _with_session(command, targeted=False)


def _with_session(command: Callable[..., Any], *, targeted: bool) -> Callable[..., Any]:
    @wraps(command)
    def wrapped(
        *,
        project: Path | None,
        state: Path | None,
        as_json: bool,
        quiet: bool,
        no_color: bool,
        environment: str | None = None,
        **rest: Any,
    ) -> Any:
        file = project if project is not None else find_project(Path.cwd())
        out = Output(as_json=as_json, quiet=quiet, no_color=no_color)
        with completed(file) as found:
            where = state or os.environ.get(BY_NAME["state"].variable)
            folder = StateFolder(Path(where) if where else file.absolute().parent / ".trueline")
            asked = environment or (os.environ.get(BY_NAME["target"].variable) if targeted else None)
            return command(Session(file, folder, out, found=found).at(asked or None), **rest)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def find_project(start: Path) -> Path:
    """The nearest project file, here or above; where it would be here when there is none."""
    for folder in (start, *start.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder / PROJECT_FILE
    return start / PROJECT_FILE
