"""`trueline approve`, `diff`, and the half of `promote` that goes from one target to the next."""

from __future__ import annotations

import getpass

import click

from trueline.cli.completing import complete_targets
from trueline.cli.options import Session, with_session, without_target
from trueline.cli.release import VersionNumber
from trueline.cli.run import conclude, follow

SERVED = ("champion", "digest", "since", "trained_to", "dataset", "came_from")
DIFFERS = 5


@click.command
@click.argument("version", type=VersionNumber())
@click.option("--reason", required=True, help="Why; kept in the event log.")
@with_session
def approve(session: Session, version: int, reason: str) -> None:
    """Agree to the release of a version that passed its gate.

    Who counts, and how many it takes, is said under gates.approve in the project file. A server knows you by your
    token; without a server you are who you are on this machine.

    \b
    Examples:
      trueline approve 4 --reason "checked with the desk"
      trueline approve 4 --target prod --reason "agreed in the change board"
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    with session.client() as client:
        found = client.approve(version, reason)
        client.settle()
    if session.out.as_json:
        session.out.json(found)
    else:
        session.out.echo(f"version {found.number} is {found.state}" + (f": {found.waiting}" if found.waiting else ""))


def to_target(session: Session, version: int | None, destination: str | None, reason: str, *, wait: bool) -> None:
    """Bring a version to the next target and stay until its gate there has decided."""
    from trueline.wiring import environments

    promotion = environments.promote(
        session.need_project(),
        session.base or session.state,
        source=session.target,
        destination=destination,
        version=version,
        actor=getpass.getuser(),
        reason=reason,
    )
    known = " (it is there already)" if promotion.already else ""
    session.out.say(
        f"version {promotion.version} of {promotion.source} goes to {promotion.destination} as {promotion.run}{known}"
    )
    there = session.at(promotion.destination)
    with there.client() as client:
        followed = follow(client, there, promotion.run, wait=wait)
    if session.out.as_json:
        found = {"run": followed.run, "gate": followed.gate, "release": followed.release}
        session.out.json({"promotion": promotion, **found})
    elif followed.gate is not None:
        session.out.echo(
            f"version {followed.gate.version} of {promotion.destination}: gate {followed.gate.verdict}: "
            f"{followed.gate.reason}"
        )
        if followed.release is not None:
            session.out.echo(f"{followed.release.id}: {followed.release.state}: {followed.release.reason}")
    conclude(followed, wait=wait)


@click.command
@click.argument("left", metavar="TARGET", shell_complete=complete_targets)
@click.argument("right", metavar="TARGET", shell_complete=complete_targets)
@click.option("--exit-code", is_flag=True, help="Exit code 5 when anything differs.")
@without_target
def diff(session: Session, left: str, right: str, *, exit_code: bool) -> int:
    """What differs between two targets: settings, and what serves.

    `base` is the project file without any target.

    \b
    Examples:
      trueline diff dev prod
      trueline diff base prod --json
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    from trueline.wiring.difference import Serving, difference

    found = difference(session.need_project(), session.base or session.state, left, right)
    if session.out.as_json:
        session.out.json(found)
    else:
        session.out.echo(session.out.bold(found.sentence))
        rows = [(one.key, one.left, one.right) for one in found.settings]
        first, second = (side or Serving() for side in found.serves)
        served = [(name, getattr(first, name), getattr(second, name)) for name in SERVED]
        rows += [row for row in served if row[1:] != (None, None)]
        session.out.table("", ("", left, right), rows, empty="")
    return DIFFERS if exit_code and (found.settings or not found.same_champion) else 0
