"""`trueline explain`: each setting's value in force and who said so."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trueline.cli.completing import complete_keys
from trueline.cli.environment import PREFERENCES, Preference
from trueline.cli.options import Session, with_session
from trueline.errors import InvalidInput, InvalidProject, TruelineError
from trueline.settings import resolve, shown

if TYPE_CHECKING:
    from trueline.projectfile.provenance import Setting

REFERENCES = ("env:", "file:")
CONTRACT_THERE = "contract.yaml was inferred from the data and holds now; delete it to have it inferred again"
CONTRACT_TO_COME = "the first run infers it from the data and writes contract.yaml"


@click.command
@click.argument("key", required=False, shell_complete=complete_keys)
@with_session
def explain(session: Session, key: str | None) -> None:
    """Each setting: its value in force, and where that came from.

    KEY is a key of the project file, with or without the keys inside it, or a variable such as TRUELINE_STATE. Without
    KEY all of them are listed. A flag wins over the environment, that over .env beside the project file, that over the
    project file, that over the user's config, and that over the default.

    \b
    Examples:
      trueline explain gates
      trueline explain gates.quality.by --target prod
      trueline explain --json | jq '.[] | select(.source.kind != "default")'
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    from trueline.projectfile.provenance import settings

    every = [*settings(session.need_project(), session.target), *_preferences(session)]
    found = every if key is None else _asked(every, key)
    root = session.project.absolute().parent
    found = [_inferred(one, root, every) for one in found]
    if session.out.as_json:
        session.out.json(found)
    elif len(found) == 1:
        _tell(session, found[0], root)
    else:
        rows = [(one.key, one.value, _place(one, session.target), one.help) for one in found]
        session.out.table(f"Settings of {session.project}", ("key", "value", "from", "what it is"), rows, empty="")


def _asked(every: list[Setting], key: str) -> list[Setting]:
    """The settings of that name, or inside the mapping of that name."""
    asked = key.strip(".")
    found = [one for one in every if one.key == asked or one.key.startswith(f"{asked}.")]
    if found:
        return found
    parts = [one.key.split(".") for one in every]
    names = {".".join(some[:end]) for some in parts for end in range(1, len(some) + 1)}
    last = {name.rpartition(".")[2]: name for name in sorted(names, reverse=True)}
    near = difflib.get_close_matches(asked, names, n=1) or [
        last[n] for n in difflib.get_close_matches(asked, last, n=1)
    ]
    raise InvalidInput(
        f"there is no key {key!r}; " + (f"did you mean {near[0]}?" if near else "`trueline explain` lists all")
    )


def _preferences(session: Session) -> Iterable[Setting]:
    context = click.get_current_context()
    return [_preference(one, session, context) for one in PREFERENCES]


def _preference(one: Preference, session: Session, context: click.Context) -> Setting:
    from trueline.projectfile.provenance import Setting, Source

    value = {
        "project": str(session.project),
        "state": str((session.base or session.state).root),
        "target": session.target,
    }.get(one.name, os.environ.get(one.variable))
    parameter = "environment" if one.name == "target" else one.name
    source = Source("default")
    if one.flag and context.get_parameter_source(parameter) == click.core.ParameterSource.COMMANDLINE:
        source, value = Source("flag", one.flag), value or "true"
    elif one.variable in session.found:
        place = session.found[one.variable]
        source = Source(".env" if place.startswith(".env:") else "user config", place)
    elif os.environ.get(one.variable):
        source = Source("environment", one.variable)
    said = "***" if one.name == "token" and value else shown(value or "null")
    return Setting(one.variable, said, source, one.default, f"a text; {one.flag or 'no flag'}", one.help)


def _inferred(one: Setting, root: Path, every: list[Setting]) -> Setting:
    """What trueline finds out for itself where nobody said it: the task, from the target's values."""
    if one.key != "task" or one.value != "null":
        return one
    from trueline.cli.looking import sample
    from trueline.projectfile.kinds import TEXT
    from trueline.projectfile.nodes import compose
    from trueline.projectfile.provenance import Source

    def text(key: str) -> str:
        node = compose(next(other.value for other in every if other.key == key), key)
        return "" if node is None else str(TEXT.read(node))

    source, target = text("data.source"), text("data.target")
    try:
        frame = sample(root, source)
    except TruelineError:
        return one
    if target not in frame.columns:
        return one
    values = frame[target].drop_nulls().n_unique()
    task = "classification" if values == 2 else "regression"
    return replace(one, value=task, source=Source("inferred", f"{target} in {source}, {values} different values"))


def _tell(session: Session, one: Setting, root: Path) -> None:
    facts = [("from", _place(one, session.target)), ("default", one.default), ("expects", one.expects)]
    if one.value.strip('"').startswith(REFERENCES):
        facts.append(("means", _meant(one, root)))
    if one.key == "contract.infer" and one.value == "true":
        there = (root / "contract.yaml").is_file()
        facts.append(("means", CONTRACT_THERE if there else CONTRACT_TO_COME))
    session.out.facts(f"{one.key}: {one.value}", facts)
    session.out.echo(f"  {one.help}")


def _meant(one: Setting, root: Path) -> str:
    """What a reference stands for now, its password hidden."""
    try:
        return shown(resolve(one.value.strip('"'), one.key, root))
    except InvalidProject as missing:
        return str(missing)


def _place(one: Setting, target: str | None) -> str:
    """Where a value came from, in words."""
    source = one.source
    match source.kind:
        case "default":
            return "default"
        case "file":
            return source.at
        case "target":
            return f"{source.at} (target {target})"
        case "inferred":
            return f"the data ({source.at})"
        case "environment":
            return f"the environment ({source.at})"
        case _:
            return source.at
