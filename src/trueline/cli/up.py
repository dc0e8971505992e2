"""`trueline up`: everything on one machine, supervised."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from contextlib import closing, suppress
from dataclasses import dataclass

import click

from trueline.cli.open import entrance
from trueline.cli.options import Session, with_session
from trueline.cli.supervisor import ChildSpec, Supervisor
from trueline.client import servers
from trueline.client.servers import Servers
from trueline.errors import Unavailable
from trueline.security import tokens
from trueline.settings import REPLICA

CONTROL_PORT = 7077
SERVE_PORT = 7078
_PORT = click.IntRange(0, 65535)


@click.command
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--control-port", type=_PORT, default=CONTROL_PORT, show_default=True, help="API; 0 takes a free one.")
@click.option("--serve-port", type=_PORT, default=SERVE_PORT, show_default=True, help="Model server; 0 likewise.")
@click.option("--replay", is_flag=True, help="Event time is posted by a driver instead of read from the clock.")
@with_session
def up(session: Session, host: str, control_port: int, serve_port: int, *, replay: bool) -> None:
    """Run everything: API, controllers, model server, worker.

    Restarts what dies. Ends with Ctrl-C or SIGTERM after finishing what is under way. With --json one line on stdout
    tells the addresses as soon as everything is ready.

    \b
    Examples:
      trueline up
      trueline up --control-port 0 --serve-port 0 --json
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    from trueline.projectfile import load
    from trueline.wiring.opening import storage_url

    project = session.need_project().absolute()
    state = session.state.create()
    lock = servers.FolderLock(state)
    try:
        servers.withdraw(state)
        tokens.ensure(state.token)
        ports = [choose(host, port) for port in (control_port, serve_port)]
        addresses = Servers(url(host, ports[0]), url(host, ports[1]), os.getpid())
        read = load(project, session.target)
        storage = storage_url(read, project.parent)
        specs = children(
            str(state.root.absolute()),
            str(project),
            host,
            ports,
            replica=state.replica(shared=storage is not None or read.engines.database is not None),
            target=session.target,
            storage=storage,
            replay=replay,
        )
        announcer = _Announcer(session, addresses)
        Supervisor(specs, announcer, probe=lambda: all_ready(host, ports)).run()
        session.out.say("stopped")
    finally:
        servers.withdraw(state)
        lock.release()


def children(
    state: str,
    project: str,
    host: str,
    ports: list[int],
    *,
    replica: str = REPLICA,
    target: str | None = None,
    storage: str | None = None,
    replay: bool,
) -> list[ChildSpec]:
    """The processes of one machine, in the order they start. The shipper ends last: it brings home what serve wrote."""

    def module(name: str, *options: str) -> tuple[str, ...]:
        return (sys.executable, "-m", f"trueline.{name}", "--state", state, *options)

    ships_to = () if storage is None else ("--storage", storage)
    replayed = ("--replay",) if replay else ()
    of = ("--project", project, *(("--target", target) if target else ()))
    control, serve = (("--host", host, "--port", str(port)) for port in ports)
    return [
        ChildSpec("ship", module("shipping", "--replica", replica, *ships_to), wave=1),
        ChildSpec("control", module("processes.control", *of, *control, *replayed)),
        ChildSpec("serve", module("serving", "--replica", replica, *serve, *replayed)),
        ChildSpec("worker", module("processes.worker", *of, *replayed)),
    ]


@dataclass(frozen=True)
class _Announcer:
    """Tells people what happens; publishes the addresses when everything is ready."""

    session: Session
    addresses: Servers

    def line(self, child: str, text: str) -> None:
        if text.startswith('{"url"'):  # what the model server says to programs that start it by itself
            text = f"listens on {json.loads(text)['url']}"
        with suppress(OSError):  # whoever read stderr has gone; the servers stay
            click.echo(f"{child:<8}│ {text}", err=True)

    def note(self, sentence: str) -> None:
        self.line("up", sentence)

    def ready(self) -> None:
        servers.publish(self.session.state, self.addresses)
        if self.session.out.as_json:
            self.session.out.json(self.addresses)
            return
        token = tokens.ensure(self.session.state.token)
        self.session.out.say(f"page         {entrance(self.addresses.control, token)}")
        self.session.out.say(f"API          {self.addresses.control}  (token in {self.session.state.token})")
        self.session.out.say(f"predictions  {self.addresses.serve}/predict")
        self.session.out.say("Ctrl-C stops everything")


def choose(host: str, port: int) -> int:
    """The port, found free just now; 0 becomes a free one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as problem:
        raise Unavailable(f"{host} is not an address of this machine ({problem.strerror})") from problem
    with closing(socket.socket(family, kind, protocol)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as problem:
            raise Unavailable(
                f"port {port} on {host} cannot be used ({problem.strerror}); stop what uses it, "
                "or choose others with --control-port and --serve-port"
            ) from problem
        return int(probe.getsockname()[1])


def url(host: str, port: int) -> str:
    """Where a client on this machine reaches a server that listens on `host`.

    >>> url("0.0.0.0", 8700), url("::1", 8701)
    ('http://127.0.0.1:8700', 'http://[::1]:8701')
    """
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 read, not bound
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def all_ready(host: str, ports: list[int]) -> bool:
    """Whether control takes work and serve lives (it has nothing to predict with before the first release)."""
    return answers(url(host, ports[0]), "/readyz") and answers(url(host, ports[1]), "/livez")


def answers(address: str, path: str) -> bool:
    """Whether a GET there gives 200 now."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
