"""`trueline open`: a way into the pages."""

from __future__ import annotations

import click

from trueline.cli.options import Session, with_session


@click.command
@click.option("--browser", is_flag=True, help="Open it in this machine's browser too.")
@with_session
def open(session: Session, *, browser: bool) -> None:  # noqa: A001 the command's name
    """Print a link to the pages of the running server.

    The link is good for fifteen minutes; a browser that followed it may look for seven days, and change nothing.

    \b
    Examples:
      trueline open
      trueline open --browser
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    from trueline.client import servers
    from trueline.errors import NotAuthenticated
    from trueline.security import tokens

    found = servers.need(session.state)
    token = tokens.read(session.state.token)
    if token is None:
        raise NotAuthenticated(f"there is no token in {session.state.token}; set {tokens.VARIABLE} to the server's")
    link = entrance(found.control, token)
    if session.out.as_json:
        session.out.json({"url": link})
    else:
        session.out.echo(link)
    if browser:
        import webbrowser

        webbrowser.open(link)


def entrance(address: str, token: str) -> str:
    """The link that lets a browser in."""
    from trueline.security.sessions import Sessions

    return f"{address}/enter?ticket={Sessions(token).ticket()}"
