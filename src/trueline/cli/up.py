"""`trueline up`: everything on one machine, supervised."""

from __future__ import annotations

import http.client
import json
import os
import socket
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial

import click

from trueline.cli.model_server import ModelServer, Processes, ServingLock, Wanted, count, grpc_port, overridden
from trueline.cli.open import entrance
from trueline.cli.options import Session, with_session
from trueline.cli.supervisor import ChildSpec, Supervisor
from trueline.client import servers
from trueline.client.servers import Servers
from trueline.domain.project import Serve
from trueline.errors import Unavailable
from trueline.security import tokens
from trueline.serving import ports

CONTROL_PORT = 7077
SERVE_PORT = Serve.port
_PORT = click.IntRange(0, 65535)
_REMEDY = "choose others with --control-port and --serve-port"


@click.command
@click.option("--host", help=f"The address to listen on; default {Serve.host}, or serve.host for predictions.")
@click.option("--control-port", type=_PORT, default=CONTROL_PORT, show_default=True, help="API; 0 takes a free one.")
@click.option("--serve-port", type=_PORT, help=f"Model server; default serve.port, which is {SERVE_PORT}.")
@click.option("--grpc-port", "grpc", type=_PORT, help="Open Inference over gRPC too; default serve.grpc_port, or none.")
@click.option(
    "--serve-processes", type=Processes(), help="Processes of the model server, or auto; default serve.processes."
)
@click.option("--replay", is_flag=True, help="Event time is posted by a driver instead of read from the clock.")
@with_session
def up(
    session: Session,
    host: str | None,
    control_port: int,
    serve_port: int | None,
    grpc: int | None,
    serve_processes: Wanted | None,
    *,
    replay: bool,
) -> None:
    """Run everything: API, controllers, model server, worker.

    Restarts what dies. Ends with Ctrl-C or SIGTERM after finishing what is under way. With --json one line on stdout
    tells the addresses as soon as everything is ready. The model server is one process unless more are asked for; a
    replay always has one, for it is to be repeatable.

    \b
    Examples:
      trueline up
      trueline up --serve-processes auto
      trueline up --control-port 0 --serve-port 0 --json
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    from trueline.projectfile import load
    from trueline.wiring.opening import storage_url

    project = session.need_project().absolute()
    state = session.state.create()
    lock = servers.FolderLock(state)
    with ExitStack() as held:
        held.callback(lock.release)
        held.callback(servers.withdraw, state)
        held.callback(ServingLock(state).release)
        servers.withdraw(state)
        tokens.ensure(state.token)
        read = load(project, session.target)
        serve = overridden(read.serve, host, serve_port, serve_processes, grpc)
        control_host = host or Serve.host
        kept = held.enter_context(ports.reserve(serve.host, serve.port, remedy=_REMEDY))
        port = int(kept.getsockname()[1])
        taken = held.enter_context(grpc_port(serve))
        control = choose(control_host, control_port)
        grpc_at = None if taken is None else url(serve.host, taken).removeprefix("http://")
        addresses = Servers(url(control_host, control), url(serve.host, port), os.getpid(), grpc_at)
        storage = storage_url(read, project.parent)
        shared = storage is not None or read.engines.database is not None
        number = 1 if replay else count(serve.processes)
        *replicas, spare = state.replicas(number + 1, shared=shared)
        model_server = ModelServer(
            state,
            serve,
            port,
            replicas,
            storage=storage,
            replay=replay,
            grpc_port=taken,
            spare=None if replay else spare,
        )
        specs = children(model_server, str(project), (control_host, control), target=session.target)
        announcer = _Announcer(session, addresses)
        probe = partial(answers, addresses.control, "/readyz")
        Supervisor(specs, announcer, probe=probe, spare=model_server.spare_process()).run()
        session.out.say("stopped")


def children(
    model_server: ModelServer, project: str, control: tuple[str, int], *, target: str | None = None
) -> list[ChildSpec]:
    """The processes of one machine, in the order they start. The shipper ends last: it brings home what serve wrote."""
    of = ("--project", project, *(("--target", target) if target else ()))
    replayed = ("--replay",) if model_server.replay else ()
    host, port = control
    return [
        model_server.shipper(),
        ChildSpec(
            "control", model_server.module("processes.control", *of, "--host", host, "--port", str(port), *replayed)
        ),
        *model_server.processes(),
        ChildSpec("worker", model_server.module("processes.worker", *of, *replayed)),
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
        if self.addresses.grpc is not None:
            self.session.out.say(f"gRPC         {self.addresses.grpc}")
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
                f"port {port} on {host} cannot be used ({problem.strerror}); stop what uses it, or {_REMEDY}"
            ) from problem
        return int(probe.getsockname()[1])


def url(host: str, port: int) -> str:
    """Where a client on this machine reaches a server that listens on `host`.

    >>> url("0.0.0.0", 8700), url("::1", 8701)
    ('http://127.0.0.1:8700', 'http://[::1]:8701')
    """
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 read, not bound
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


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
