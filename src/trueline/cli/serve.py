"""`trueline serve`: the model server alone, without a control plane."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click

from trueline.cli.model_server import ModelServer, Processes, ServingLock, Wanted, count, grpc_port, overridden
from trueline.cli.options import Session, with_session
from trueline.cli.supervisor import ANNOUNCEMENT, Supervisor
from trueline.cli.up import answers, url
from trueline.domain.project import Project, Serve
from trueline.domain.routes import Arm, Route, RouteTable
from trueline.errors import InvalidInput, PackagingFailed
from trueline.security import tokens
from trueline.serving import ports
from trueline.settings import StateFolder

SERVED = "served"
_RUN = re.compile(r"runs:/+(?P<run>[^/]+)(?:/model/?)?")


@click.command
@click.option("-m", "--model", metavar="FOLDER", help="A packaged model: its folder, or runs:/RUN of this project.")
@click.option("--name", help="What the model is called in requests; default its project's name.")
@click.option("--host", help=f"The address to listen on; default serve.host, which is {Serve.host}.")
@click.option("-p", "--port", type=click.IntRange(0, 65535), help=f"Default serve.port, which is {Serve.port}.")
@click.option("--grpc-port", "grpc", type=click.IntRange(0, 65535), help="Open Inference over gRPC too; default none.")
@click.option(
    "-w", "--processes", type=Processes(), help="How many answer on the port, or auto; default serve.processes."
)
@click.option(
    "--sync", is_flag=True, help="Have each prediction on the disk before it is answered, as serve.sync does."
)
@click.option("--allow-pickle", is_flag=True, help="With --model: run the pickled object of a folder you trust.")
@with_session
def serve(
    session: Session,
    model: str | None,
    name: str | None,
    host: str | None,
    port: int | None,
    grpc: int | None,
    processes: Wanted | None,
    *,
    sync: bool,
    allow_pickle: bool,
) -> None:
    """Serve predictions: what is released here, or one packaged model.

    Without --model it serves the last route table of the state folder, and follows a control plane that runs beside it.
    With --model it needs no project. Predictions are journalled either way, and shipped to the table of predictions
    under the state folder. Ends with Ctrl-C or SIGTERM after answering what is in progress.

    \b
    Examples:
      trueline serve
      trueline serve --processes auto --port 8080
      trueline serve -m .trueline/runs/run-1/model
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    project = _project(session)
    one = None if model is None else _one_model(session.state, model, name, allow_pickle=allow_pickle)
    state = session.state.create() if one is None else one.state
    with ExitStack() as held:
        held.callback(ServingLock(state).release)
        wanted = overridden(project.serve if project is not None else Serve(), host, port, processes, grpc)
        wanted = replace(wanted, sync=wanted.sync or sync)
        kept = held.enter_context(ports.reserve(wanted.host, wanted.port))
        taken = int(kept.getsockname()[1])
        grpc_taken = held.enter_context(grpc_port(wanted))
        alone = ports.loopback(wanted.host)
        if not alone:
            tokens.ensure(state.token)
        storage = _storage(session, project) if model is None else None
        shared = storage is not None or (project is not None and project.engines.database is not None)
        number = count(wanted.processes)
        *replicas, spare = state.replicas(number + 1, shared=shared and model is None)
        server = ModelServer(state, wanted, taken, replicas, storage=storage, grpc_port=grpc_taken, spare=spare)
        teller = _Teller(session, state, url(wanted.host, taken), number, grpc_taken, alone, model)
        if one is not None:
            held.enter_context(one.routed())
        children = [*server.processes(), server.shipper(late=True)]
        Supervisor(children, teller, spare=server.spare_process()).run()
        session.out.say("stopped")


@dataclass(frozen=True)
class _Teller:
    """Tells people what happens, and programs the address when it answers."""

    session: Session
    state: StateFolder
    url: str
    processes: int
    grpc_port: int | None
    alone: bool  # only this machine can ask
    model: str | None = None  # the one that was named

    def line(self, child: str, text: str) -> None:
        if not text.startswith(ANNOUNCEMENT):
            with suppress(OSError):  # whoever read stderr has gone; the server stays
                click.echo(f"{child:<8}│ {text}", err=True)

    def note(self, sentence: str) -> None:
        self.line("serve", sentence)

    def ready(self) -> None:
        if self.model is not None and not any(answers(self.url, "/readyz") for _ in range(10)):  # a busy machine
            raise PackagingFailed(
                f"the model in {self.model} cannot be loaded, and there is no other to serve: see above"
            )
        out = self.session.out
        if out.as_json:
            told = {"url": self.url, "processes": self.processes, "state": str(self.state.root)}
            out.json(told if self.grpc_port is None else told | {"grpc_port": self.grpc_port})
            return
        table = _kept(self.state)
        served = ", ".join(f"version {one.version} ({one.arm})" for one in table.routes) if table else ""
        out.say(f"model        {table.model}: {served}" if table and served else _NOTHING)
        out.say(f"predictions  {self.url}/predict" + (f"  ({self.processes} processes)" if self.processes > 1 else ""))
        if self.grpc_port is not None:
            out.say(f"gRPC         port {self.grpc_port}")
        if not self.alone:
            out.say(f"token        in {self.state.token}; callers send it as 'Authorization: Bearer …'")
        out.say(f"journal      {self.state.journals}")
        out.say("Ctrl-C stops it")


_NOTHING = "nothing is released here yet: answers 503 until something is (`trueline run`), or name one with --model"


def _project(session: Session) -> Project | None:
    """The project file's values; a server needs none."""
    if not session.project.is_file():
        return None
    from trueline.projectfile import load

    return load(session.project, session.target)


def _storage(session: Session, project: Project | None) -> str | None:
    if project is None or project.engines.storage is None:
        return None
    from trueline.wiring.opening import storage_url

    return storage_url(project, session.project.absolute().parent)


def _kept(state: StateFolder) -> RouteTable | None:
    from trueline import routefile

    try:
        return routefile.read(state.routes)
    except (OSError, ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True)
class _OneModel:
    """A state folder of its own whose route table has one model alone."""

    state: StateFolder
    before: RouteTable | None
    table: RouteTable

    @contextmanager
    def routed(self) -> Iterator[None]:
        """Route to the model, and as before again if it cannot be loaded: what never answered takes no version number."""
        from trueline import routefile

        if self.before != self.table:
            routefile.write(self.state.routes, self.table)
        try:
            yield
        except PackagingFailed:
            if self.before is None:
                self.state.routes.unlink(missing_ok=True)
            elif self.before != self.table:
                routefile.write(self.state.routes, replace(self.before, epoch=self.table.epoch + 1))
            raise


def _one_model(base: StateFolder, model: str, name: str | None, *, allow_pickle: bool = False) -> _OneModel:
    """The model as it is to be served: another content is another version."""
    from trueline.packaging import manifest
    from trueline.storage import trees

    folder = _folder(base, model)
    described = manifest.read(folder)
    if (
        described.kind == "python"
        and not allow_pickle
        and (base.root / "runs").resolve() not in folder.resolve().parents
    ):
        raise PackagingFailed(
            f"{folder} holds a pickled Python object, which runs code when it is loaded, and no training of this project "
            "made it; if you trust where it comes from, add --allow-pickle"
        )
    called = name or str(described.meta.get("project") or folder.name)
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,99}", called):
        raise InvalidInput(f"a model cannot be called {called!r}: give it letters, digits, dots, dashes with --name")
    state = StateFolder(base.root / SERVED / called).create()
    digest, path = trees.digest(folder), str(folder)
    before = _kept(state)
    known = before.champion if before is not None else None
    if before is not None and known is not None and (known.digest, known.path) == (digest, path):
        return _OneModel(state, before, before)
    version = 1 if known is None else known.version + (known.digest != digest)
    route = Route(version, Arm.champion, 1.0, path, digest)
    return _OneModel(state, before, RouteTable(1 if before is None else before.epoch + 1, called, (route,)))


def _folder(base: StateFolder, model: str) -> Path:
    run = _RUN.fullmatch(model)
    folder = base.run(run["run"]) / "model" if run is not None else Path(model).absolute()
    if folder.is_dir():
        return folder
    if run is None and re.match(r"[a-z0-9]{2,}:/", model):
        raise InvalidInput(f"--model {model} is not known here; name a folder, or runs:/RUN of this project")
    raise InvalidInput(f"there is no model folder {folder}; name one that `trueline run` has made, or runs:/RUN")
