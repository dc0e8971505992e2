"""`trueline token`: names for those who use a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trueline.cli.options import Session, with_session
from trueline.errors import InvalidInput
from trueline.web.api.calls import Permission

if TYPE_CHECKING:
    from trueline.security.people import People

PERMISSIONS = tuple(str(one) for one in Permission if one is not Permission.anyone)


@click.command
@click.argument("name", required=False)
@click.option(
    "--may",
    "permissions",
    type=click.Choice(PERMISSIONS),
    multiple=True,
    help="What it allows; may be repeated. Default everything.",
)
@click.option("--revoke", is_flag=True, help="Take NAME's token back.")
@with_session
def token(session: Session, name: str | None, permissions: tuple[str, ...], *, revoke: bool) -> None:
    """Make a token in somebody's name, take it back, or list them all.

    What is done with it is recorded as NAME's doing, and gates.approve counts it as NAME's approval. The token is shown
    once. Use it as TRUELINE_TOKEN.

    \b
    Examples:
      trueline token ada
      trueline token ci --may train --may read
      trueline token ada --revoke
      trueline token
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    from trueline.security.people import People

    people = People(session.state.create().people)
    if name is None:
        if revoke or permissions:
            raise InvalidInput("say whose token: trueline token NAME")
        _list(session, people)
    elif revoke:
        people.revoke(name)
        if session.out.as_json:
            session.out.json({"name": name, "revoked": True})
        else:
            session.out.echo(f"{name}'s token is worth nothing any more")
    else:
        made = people.issue(name, frozenset(permissions) or None)
        if session.out.as_json:
            session.out.json({"name": name, "token": made})
        else:
            session.out.say(f"{name}'s token, shown this once:")
            session.out.echo(made)


def _list(session: Session, people: People) -> None:
    known = people.known()
    if session.out.as_json:
        session.out.json([{"name": one.name, "permissions": one.permissions} for one in known])
        return
    rows = [(one.name, "everything" if one.permissions is None else sorted(one.permissions)) for one in known]
    session.out.table("Tokens", ("name", "may"), rows, empty="nobody has a token of their own yet: trueline token NAME")
