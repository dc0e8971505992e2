"""`trueline demo`: the demonstration's own command, with examples."""

from __future__ import annotations

import click

from trueline.demo.program import command

HELP = """Watch the whole loop on a year of real flights.

\b
Examples:
  trueline demo
  trueline demo --json
  trueline demo --pace 0.5 --keep
"""

demo = click.Command("demo", params=command.params, callback=command.callback, help=HELP)
