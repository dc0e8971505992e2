"""`trueline release`, `promote`, `rollback`: moving traffic between versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from trueline.cli.completing import complete_ids, complete_targets, complete_versions
from trueline.cli.options import Session, with_session
from trueline.errors import Conflict, InvalidInput, Unavailable

if TYPE_CHECKING:
    from trueline.client import Client
    from trueline.domain.routes import RouteTable
    from trueline.web.api.releases import ReleaseView

_reason = click.option("--reason", required=True, help="Why; kept in the event log.")


class VersionNumber(click.ParamType[int]):
    """`3` or `v3`."""

    name = "VERSION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).removeprefix("v")
        if not (text.isascii() and text.isdigit()):
            self.fail(f"{value!r} is not a version number", param, ctx)
        return int(text)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return complete_versions(ctx, param, incomplete)


UNDECIDED = frozenset({"pending", "shadow", "canary"})


def _waiting(client: Client, version: int) -> ReleaseView | None:
    """The release that a waiver has queued."""
    newest = next(iter(client.releases(version=version, limit=1).items), None)
    return newest if newest is not None and newest.state in UNDECIDED else None


def _undecided(client: Client) -> str:
    """The one release that may still be promoted: the one that waits, or the one under way."""
    watched = client.status().release
    found = {one.id: one for one in client.releases().items if one.state in UNDECIDED}
    if watched is not None and watched.state in UNDECIDED:  # it may be older than what a page holds
        found[watched.id] = watched
    if len(found) > 1:
        listed = " and ".join(f"{one.id} of version {one.version} ({one.state})" for one in found.values())
        raise InvalidInput(f"{listed} are undecided: say which one, as in `trueline promote {next(iter(found))}`")
    if not found:
        has_all = "" if watched is None else f": {watched.id} has given version {watched.version} all traffic already"
        raise Conflict(f"nothing is being released{has_all}; start with `trueline release VERSION --reason ...`")
    return next(iter(found))


@click.command
@click.argument("version", type=VersionNumber())
@_reason
@click.option("--waive", is_flag=True, help="Release it although its gate did not pass; the waiver is kept.")
@with_session
def release(session: Session, version: int, reason: str, *, waive: bool) -> None:
    """Start releasing an approved version.

    \b
    Examples:
      trueline release 4 --reason "the one we agreed on"
      trueline release 5 --waive --reason "the gate's rows predate the new fares"
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    with session.client() as client:
        if waive:
            client.waive(version, reason)
            session.out.say(f"version {version} may pass: {reason}")
        found = (_waiting(client, version) if waive else None) or client.start_release(version, reason)
        client.settle()
        found = client.release(found.id)
    if session.out.as_json:
        session.out.json(found)
    else:
        session.out.echo(f"{found.id}: version {found.version} is {found.state}: {found.reason}")


@click.command
@click.argument("what", metavar="[RELEASE | VERSION]", required=False, shell_complete=complete_ids)
@click.option(
    "--to",
    "destination",
    metavar="TARGET",
    help="Bring a version to the target after this one.",
    shell_complete=complete_targets,
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="With --to: stay until its gate has decided.")
@_reason
@with_session
def promote(session: Session, what: str | None, destination: str | None, reason: str, *, wait: bool) -> None:
    """Give a release all traffic, or a version to the next target.

    Without RELEASE it is the one that waits or is under way; with two of them it asks which. With --to it is a version
    (the champion, if none is named) that goes on to that target, where the target's own gate and approvals decide: the
    same model, byte for byte.

    \b
    Examples:
      trueline promote --reason "enough seen"
      trueline promote release-3 --reason "launch day" --json
      trueline promote 7 --target dev --to prod --reason "a good week in dev"
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    if destination is not None:
        from trueline.cli.targets import to_target

        version = None if what is None else VersionNumber().convert(what, None, None)
        to_target(session, version, destination, reason, wait=wait)
        return
    if what is not None and what.removeprefix("v").isdigit():
        raise InvalidInput(
            f"{what} is a version: say with --to which target it goes to, or name its release, as in release-3"
        )
    with session.client() as client:
        found = client.promote(what if what is not None else _undecided(client), reason)
    if session.out.as_json:
        session.out.json(found)
    else:
        session.out.echo(f"{found.id}: version {found.version} is {found.state}: {reason}")


@click.command
@_reason
@click.option("--version", type=VersionNumber(), default=None, help="Serve this one; default the champion before.")
@click.option("--local", is_flag=True, help="On the model server itself, when control is down; holds until lifted.")
@with_session
def rollback(session: Session, reason: str, version: int | None, *, local: bool) -> None:
    """Serve the version before, or the one you name.

    \b
    Examples:
      trueline rollback --reason "complaints from the desk"
      trueline rollback --version 2 --reason "known good"
      trueline rollback --local --reason "control is down"
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    if local:
        answer = override(session, version, reason)
        if session.out.as_json:
            session.out.json(answer)
        else:
            session.out.echo(
                f"version {answer['version']} serves everything, epoch {answer['epoch']}, held until control lifts it"
            )
        return
    with session.client() as client:
        done = client.roll_back(reason, version=version)
    if session.out.as_json:
        session.out.json(done)
    else:
        took = "" if done.rollback_ms is None else f" after {done.rollback_ms:.0f} ms"
        session.out.echo(f"version {done.version} serves again{took}, epoch {done.epoch}: {done.reason}")


def override(session: Session, version: int | None, reason: str) -> dict[str, Any]:
    """Roll back on every model server of this machine, without control.

    The new table takes the next epoch and holds: control imports it as an event when it is back and does not
    overwrite it.
    """
    from trueline import sockets
    from trueline.domain import routes

    tables = in_force(session)
    table = max(tables.values(), key=lambda found: found.epoch)
    if not table.routes:
        raise Conflict("nothing has been released yet: there is no version to go back to")
    chosen = version if version is not None else _before(table)
    if chosen not in {route.version for route in table.routes}:
        known = ", ".join(str(route.version) for route in table.routes)
        raise InvalidInput(f"version {chosen} is not loaded on this server (loaded: {known}); control can release it")
    held = table.only(chosen, epoch=table.epoch + 1, hold=True)
    for path in tables:
        sockets.ask(path, {"op": "override", "table": routes.encode(held), "reason": reason})
        session.out.say(f"{path.stem} serves version {chosen} only")
    return {"version": chosen, "epoch": held.epoch, "servers": [path.stem for path in tables], "reason": reason}


def in_force(session: Session) -> dict[Path, RouteTable]:
    """The route table of each model server of this machine that answers, by its admin socket."""
    from trueline import sockets
    from trueline.domain import routes

    tables: dict[Path, RouteTable] = {}
    silent: list[str] = []
    for path in sorted(session.state.sockets.glob("serve-*.sock")):
        try:
            tables[path] = routes.decode(sockets.ask(path, {"op": "status", "at_once": True})["table"])
        except Unavailable as problem:  # a dead server's socket stays behind; it reads the new table when it starts
            silent.append(str(problem))
    if not tables:
        why = f": {'; '.join(silent)}" if silent else ""
        raise Unavailable(f"no model server of {session.state.root} runs on this machine{why}")
    return tables


def _before(table: RouteTable) -> int:
    """The version that a rollback means: the champion under a canary, else the one version kept warm beside it."""
    champion = table.champion
    if champion is not None and champion.weight < 1:
        return champion.version
    others = [route.version for route in table.routes if route is not champion]
    if len(others) != 1:
        listed = ", ".join(map(str, others)) or "none"
        raise InvalidInput(f"say which version with --version: other than the champion, {listed} are loaded here")
    return others[0]
