"""`trueline events`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from trueline.cli.options import Session, with_session

if TYPE_CHECKING:
    from trueline.web.api.events import EventView

POLL_SECONDS = 0.3


@click.command
@click.option("--after", type=click.IntRange(0), default=0, help="Only events behind this one.")
@click.option("--limit", type=click.IntRange(1), default=None, help="At most so many; default all.")
@click.option("--kind", default=None, help="A noun (release) or one kind of event (release.promote).")
@click.option("--follow", is_flag=True, help="Keep waiting for more; ends with Ctrl-C.")
@with_session
def events(session: Session, after: int, limit: int | None, kind: str | None, *, follow: bool) -> None:
    """What happened, to what, who did it, and why.

    With --json one event is one line.

    \b
    Examples:
      trueline events --kind release
      trueline events --follow --json
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    left, seen = limit, 0
    with session.client() as client:
        while left is None or left > 0:
            page = client.events(after=after, limit=min(left or 200, 200), kind=kind)
            for event in page.items:
                show(session, event)
            seen += len(page.items)
            after = page.next
            left = None if left is None else left - len(page.items)
            if not page.items:
                if not follow:
                    if kind is not None and not seen:
                        session.out.say(f"no event of kind {kind!r}; `trueline events` shows what there is")
                    return
                time.sleep(POLL_SECONDS)


def show(session: Session, event: EventView) -> None:
    """One event as a line."""
    if session.out.as_json:
        session.out.json(event)
        return
    head = session.out.bold(f"{event.at:%Y-%m-%d %H:%M} {event.kind} {event.ref}")
    session.out.echo(f"{head}  {event.reason} ({event.actor})")
