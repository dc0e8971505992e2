"""Writes the pages that say what the program says: docs/cli.md from the commands, docs/project-file.md from the keys.

Run it after changing either: `python docs/generate.py`. A test compares the pages with what it would write.
"""  # noqa: INP001 a script

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING
from inspect import cleandoc
from pathlib import Path

import click

from trueline.cli.environment import PREFERENCES
from trueline.cli.main import COMMANDS, cli
from trueline.projectfile.keys import LATER, Group, Key, groups, is_inline

HERE = Path(__file__).parent
COMMON = ("environment", "project", "state", "as_json", "quiet", "no_color")
NOTE = "<!-- written by docs/generate.py: change the program, then run that -->"

CODES = """\
| code | meaning |
|---|---|
| 0 | done |
| 1 | failed, or in the wrong state for it |
| 2 | wrong use, project file or data |
| 3 | the gate failed |
| 4 | the gate cannot tell yet |
| 5 | something differs, with `--exit-code` |
| 6 | something needed cannot be reached or used: a server, a database, a port, a folder |
| 7 | refused |
| 130, 143 | interrupted, terminated |
"""

COMMON_TEXT = """\
Data goes to stdout, progress to stderr. Every command takes the options below, but {} no `--target`, and `demo` only `--json`.
"""

PLACES = """\
Each of them is looked for in its flag, then in the environment, then in `.env` beside the project file (lines of
`NAME=value`; what the environment has already is not overridden, and `env:NAME` references find what stands there), then in
the user's `$XDG_CONFIG_HOME/trueline/config.yaml` where the table names a key for it. `trueline explain` says the value in
force and where it came from.
"""

FILE_TEXT = """\
# The project file

`trueline.yaml` says what should be true of one model. Four facts are enough: where the data is, which column to predict, when
a row happened and what it is about, and which function trains. `trueline init` finds them and writes the file. Everything
else has a default, which is in force wherever a key is left out or null.

`trueline explain` prints each value in force with the line it came from; `trueline schema` prints the JSON Schema for
editors (name the file it is written to in a first line `# yaml-language-server: $schema=trueline.schema.json`). A key that
is not known is an error with the nearest name, never ignored.

Durations read `30m`, `6h`, `7d`, `4w`; shares `5%` or `0.05`.
"""

TARGETS_TEXT = """\
## Targets

```yaml
database: env:DEV_DATABASE_URL
gates: {quality: {by: 2%}}
targets:
  dev: {}
  prod:
    database: env:DATABASE_URL
    gates: {quality: {by: 1%}, approve: {by: [ann, bob], count: 2}}
    contract: {personal: null}
```

With `--target prod` (or `TRUELINE_TARGET`) that target's mapping is laid over the rest of the file: mappings merge, lists and
values replace, `null` brings the default back. `version`, `project` and `targets` are the same everywhere. Every target is
checked whenever the file is read, so a mistake in `prod` is not found in production. Each target has its own state folder.

`database`, `tracking` and `storage` are URLs, or references to one: `env:NAME` is an environment variable, `file:PATH` the
text of a file (relative to the project file). Passwords are hidden wherever a URL is printed.
"""


def main() -> None:
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    return {"cli.md": cli_page(), "project-file.md": project_page()}


def cli_page() -> str:
    """Every command with its options and examples."""
    context = click.Context(cli, info_name="trueline")
    found = {name: cli.get_command(context, name) for name in COMMANDS}
    first = next(command for command in found.values() if command is not None and command.name == "status")
    without = [
        name for name, one in found.items() if one is not None and "environment" not in {p.name for p in one.params}
    ]
    told = COMMON_TEXT.format(", ".join(f"`{name}`" for name in without if name != "demo"))
    parts = [NOTE, "# The command line", told, _options([one for one in first.params if one.name in COMMON])]
    parts += ["## Where settings come from", PLACES, _preferences(), "## Exit codes", CODES]
    for name, command in found.items():
        if command is not None:
            parts += list(_command(name, command, context))
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _command(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    pieces = " ".join(command.collect_usage_pieces(context)).replace("[OPTIONS]", "").strip()
    yield f"## trueline {name}{f' {pieces}' if pieces else ''}".replace("[", r"\[").replace("<", r"\<")
    prose, _, examples = cleandoc(command.help or "").partition("\b\nExamples:\n")
    yield "\n\n".join(" ".join(one.split()) for one in prose.replace("\b", "").split("\n\n") if one.strip())
    if examples:
        yield "```\n" + "\n".join(line.strip() for line in examples.strip().splitlines()) + "\n```"
    yield _options([one for one in command.params if isinstance(one, click.Option) and one.name not in COMMON])


def _options(params: list[click.Parameter]) -> str:
    rows = [_option(one) for one in params if isinstance(one, click.Option) and one.name != "help"]
    return _table(("option", "what it is"), rows) if rows else ""


def _option(one: click.Option) -> tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
    takes = "" if one.is_flag else f" {(one.metavar or one.type.name).upper()}"
    shown = one.show_default and one.default not in (None, False) and not one.secondary_opts
    default = f" Default {one.default}." if shown else ""
    return f"{names}{takes}", f"{one.help or ''}{default}{' Required.' if one.required else ''}"


def _preferences() -> str:
    rows = [
        (
            f"`{one.variable}`",
            f"`{one.flag}`" if one.flag else "",
            f"`{one.name}`" if one.personal else "",
            one.help,
            one.default,
        )
        for one in PREFERENCES
    ]
    return _table(("variable", "flag", "key of config.yaml", "what it is", "default"), rows)


def project_page() -> str:
    """Every key with what it takes, its default, and what it is for."""
    parts = [NOTE, FILE_TEXT]
    for path, group in groups():
        rows = list(_keys(path, group))
        if rows:
            title = f"## `{path}`" if path else "## At the top"
            parts += [title, group.help, _table(("key", "takes", "default", "what it is"), rows)]
    refused = ", ".join(f"`{key}`" for key in LATER)
    parts += [TARGETS_TEXT, "## Not yet", f"These keys are of a later version and refused until then: {refused}."]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _keys(path: str, group: Group) -> Iterator[tuple[str, str, str, str]]:
    for member in group.members:
        if is_inline(member):
            yield from _keys(path, member)
        elif isinstance(member, Key):
            default = group.default(member)
            shown = "**needed**" if default is MISSING else "" if default is None else f"`{member.kind.show(default)}`"
            yield f"`{f'{path}.{member.name}'.lstrip('.')}`", member.kind.expects, shown, member.help


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


if __name__ == "__main__":
    main()
