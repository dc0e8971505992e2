"""The options every command has, declared once, and the session they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trueline.cli.output import Output
from trueline.errors import InvalidProject
from trueline.settings import StateFolder

if TYPE_CHECKING:  # importing the client costs most of a command's start
    from trueline.client import Client

PROJECT_FILE = "trueline.yaml"

_OPTIONS = (
    click.option(
        "-f",
        "--project",
        type=click.Path(path_type=Path),
        envvar="TRUELINE_PROJECT",
        help="The project file; default trueline.yaml here or in a folder above.",
    ),
    click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="TRUELINE_STATE",
        help="The state folder; default .trueline beside the project file.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print data as JSON on stdout."),
    click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
    click.option("--no-color", is_flag=True, help="Plain text; NO_COLOR does the same."),
)


@dataclass(frozen=True)
class Session:
    """Where a command works and how it speaks."""

    project: Path
    state: StateFolder
    out: Output

    def need_project(self) -> Path:
        """The project file, which must be there."""
        if not self.project.is_file():
            raise InvalidProject(
                f"there is no project file {self.project}; make one with "
                "`trueline init --source data.csv --target COLUMN`, or name it with --project"
            )
        return self.project

    def client(self, *, timeout: float = 30.0) -> Client:
        """The running server's client, or one that works in this process when none runs."""
        from trueline.client import Client

        if Client.reachable(self.state):
            return Client.connect(self.state, timeout=timeout)
        return Client.local(self.need_project(), self.state)


def with_session(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the common options to a command and hand it a `Session` instead."""

    @wraps(command)
    def wrapped(
        *, project: Path | None, state: Path | None, as_json: bool, quiet: bool, no_color: bool, **rest: Any
    ) -> Any:
        file = project if project is not None else find_project(Path.cwd())
        folder = StateFolder(state if state is not None else file.absolute().parent / ".trueline")
        return command(Session(file, folder, Output(as_json=as_json, quiet=quiet, no_color=no_color)), **rest)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def find_project(start: Path) -> Path:
    """The nearest project file, here or above; where it would be here when there is none."""
    for folder in (start, *start.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder / PROJECT_FILE
    return start / PROJECT_FILE
