"""The settings of a command that stand outside the project file, and what each was found in.

Each is looked for in its flag, in the environment, in `.env` beside the project file, in the user's own config, and has a
default after that. What `.env` and the config say is put into the environment for as long as the command runs, so that a
reference (`env:DATABASE_URL`) and every process it starts see the same; what is set already is never overridden.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trueline.errors import InvalidProject
from trueline.settings import resolve

LINE = re.compile(
    r"""(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?:'([^']*)'|"([^"\\]*)"|([^\s'"#][^#]*?)?)\s*(?:\s#.*)?"""
)


@dataclass(frozen=True)
class Preference:
    """One setting: its variable, its flag if it has one, and whether the user's config may have it."""

    name: str
    variable: str
    flag: str | None
    personal: bool
    default: str
    help: str


PREFERENCES = (
    Preference(
        "project",
        "TRUELINE_PROJECT",
        "--project",
        False,
        "trueline.yaml here or in a folder above",
        "The project file.",
    ),
    Preference("state", "TRUELINE_STATE", "--state", False, ".trueline beside the project file", "The state folder."),
    Preference("target", "TRUELINE_TARGET", "--target", True, "none of them", "One of the project file's targets."),
    Preference("url", "TRUELINE_URL", None, True, "the server that runs on the state folder", "The server asked."),
    Preference(
        "token", "TRUELINE_TOKEN", None, True, "the state folder's token file", "The token shown to the server."
    ),
    Preference("no_color", "NO_COLOR", "--no-color", True, "colours on a terminal", "Plain text; any value."),
)
"""`project` and `state` belong to a place, not to a person: in the user's config they would hold for every project."""

BY_NAME = {one.name: one for one in PREFERENCES}


@contextmanager
def completed(project: Path) -> Iterator[Mapping[str, str]]:
    """The environment with what `.env` and the user's config add; gives each added variable with its place.

    Raises:
        InvalidProject: one of the two files says something that is not understood.
    """
    added = {name: found for name, found in additions(project).items() if name not in os.environ}
    os.environ.update({name: value for name, (value, _) in added.items()})
    try:
        yield {name: place for name, (_, place) in added.items()}
    finally:
        for name in added:
            os.environ.pop(name, None)


def additions(project: Path) -> dict[str, tuple[str, str]]:
    """Variable → value and place, `.env` before the user's config. The project file is found before `.env` is."""
    from_file = dotenv(project.absolute().parent / ".env")
    from_file.pop(BY_NAME["project"].variable, None)
    return config(config_path()) | from_file


def dotenv(path: Path) -> dict[str, tuple[str, str]]:
    """The variables of a `.env` file: NAME=value lines, quotes taken off, nothing substituted."""
    found = {}
    for number, line in enumerate((_text(path) or "").splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = LINE.fullmatch(stripped)
        if match is None:
            raise InvalidProject(
                f"{path}:{number}: expected NAME=value; quote a value that has spaces, # or quotes in it"
            )
        name, *values = match.groups()
        found[name] = (next((value for value in values if value is not None), "").strip(), f"{path.name}:{number}")
    return found


def config_path() -> Path:
    """The user's own config; it need not be there."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "trueline" / "config.yaml"


def config(path: Path) -> dict[str, tuple[str, str]]:
    """The variables that the user's config sets."""
    text = _text(path)
    if text is None:
        return {}
    from trueline.projectfile.nodes import compose

    top = compose(text, str(path))
    if top is None:
        return {}
    if top.members is None:
        top.wrong("a mapping of keys to values")
    known = {one.name: one.variable for one in PREFERENCES if one.personal}
    found = {}
    for name, node in top.members.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            raise InvalidProject(f"{path}:{node.key_line}: {name}: there is no such key; {hint}")
        value = resolve(node.text or node.wrong("a text"), f"{path}: {name}", path.parent)
        if name != "no_color" or value.lower() != "false":
            found[known[name]] = (value, f"{path}:{node.key_line}")
    return found


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise InvalidProject(f"{path} cannot be read ({said}); mend it or take it away") from problem
