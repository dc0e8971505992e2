"""`trueline why`."""

from __future__ import annotations

import click

from trueline.cli.completing import complete_ids
from trueline.cli.options import Session, with_session
from trueline.cli.output import cell


@click.command
@click.argument("id", shell_complete=complete_ids)
@with_session
def why(session: Session, id: str) -> None:  # noqa: A002 the word users see
    """Trace a prediction back to model, run, code, data and decision.

    ID is a prediction id, a run id, a version number, a release id or a gate id.

    \b
    Examples:
      trueline why 3
      trueline why run-7
      trueline why r0c5f2-1a-0 --json
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    with session.client() as client:
        found = client.why(id)
    if session.out.as_json:
        session.out.json(found)
        return
    session.out.echo(session.out.bold(found.sentence))
    for link in found.links:
        session.out.echo(
            f"└ {link.noun} {link.ref}" + (f" ({cell(link.at)})" if link.at else "") + f": {link.sentence}"
        )
        for name, value in link.facts.items():
            if value not in (None, "", {}, []):
                session.out.echo(f"    {name}: {cell(value)}")
