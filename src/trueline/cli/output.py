"""How commands speak: data on stdout, progress on stderr, JSON for programs, tables for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from trueline.domain.figures import figure

if TYPE_CHECKING:  # Rich is imported when something is drawn for people, not before
    from rich.console import Console

WIDTH = 120
"""Of tables that go to a file or a pipe: a terminal's width has no meaning there."""


@dataclass(frozen=True)
class Output:
    as_json: bool = False
    quiet: bool = False
    no_color: bool = False

    def json(self, value: Any) -> None:
        """One JSON value on one line of stdout."""
        import msgspec

        click.echo(msgspec.json.encode(value).decode(), color=True)  # as it is; a stdout that is closed gets nothing

    def say(self, sentence: str) -> None:
        """Progress: for people, on stderr."""
        if not self.quiet:
            click.echo(sentence, err=True)

    @property
    def plain(self) -> bool:
        """Whether nothing but text may be written (an empty NO_COLOR counts as unset, as its definition says)."""
        return self.no_color or bool(os.environ.get("NO_COLOR"))

    def echo(self, text: str) -> None:
        """A line for people on stdout."""
        forced = True if os.environ.get("FORCE_COLOR") and not self.plain else None
        click.echo(text, color=False if self.plain else forced)

    def console(self) -> Console:
        """Where tables are drawn; Rich itself honours FORCE_COLOR and COLUMNS."""
        from rich.console import Console

        width = None if sys.stdout is not None and sys.stdout.isatty() else WIDTH
        if self.plain:
            return Console(force_terminal=False, color_system=None, width=width, highlight=False, markup=False)
        return Console(width=width, highlight=False, markup=False)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
        """A table, or the sentence that says why there is none."""
        drawn = [[cell(value) for value in row] for row in rows]
        if not drawn:
            self.echo(empty)
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in drawn:
            table.add_row(*map(Text, row))
        self.console().print(table)

    def facts(self, title: str, pairs: Iterable[tuple[str, object]]) -> None:
        """Names and values under a title, aligned; what is None is left out."""
        shown = [(name, cell(value)) for name, value in pairs if value is not None]
        width = max((len(name) for name, _ in shown), default=0)
        self.echo(self.bold(title))
        for name, value in shown:
            self.echo(f"  {name.ljust(width)}  {value}")

    def bold(self, text: str) -> str:
        return text if self.plain else click.style(text, bold=True)


def cell(value: object) -> str:
    """A value as people read it.

    >>> cell(datetime(2026, 3, 1, 12, 30))
    '2026-03-01 12:30'
    >>> cell(0.25), cell(39811.0), cell(None), cell({"a": 1, "b": []})
    ('0.25', '39811', '', 'a=1')
    """
    match value:
        case None:
            text = ""
        case bool():
            text = "yes" if value else "no"
        case datetime():
            text = f"{value:%Y-%m-%d %H:%M}"
        case float():
            text = figure(value)
        case dict():
            said = ((name, inner) for name, inner in value.items() if inner not in (None, "", {}, [], ()))
            text = ", ".join(f"{name}={cell(inner)}" for name, inner in said)
        case list() | tuple():
            text = ", ".join(map(cell, value))
        case _:
            text = str(value)
    return text
