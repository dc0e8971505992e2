"""A small world that can be frozen, copied and killed: the real control plane on a database in memory.

Everything that decides or commits is the product's own code: the controllers, the worker's rounds, delivery, the API's
services. What they act upon outside the database is made of a few lines each (servers with the rules of the real ones,
a tracking store, trainings that take no time), except the routes' file and the journals, which are real files on a
disk in memory. `hit` is called at every transaction and side-effect boundary; who wants a crash there raises it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.pool import StaticPool

from trueline import routefile
from trueline.control import gates, journals, runs, work
from trueline.control.context import Context
from trueline.control.leadership import Leadership
from trueline.control.rounds import Round
from trueline.domain.project import Data, Guards, Project, ReleasePolicy, Retrain, Step
from trueline.domain.routes import RouteTable, decode, encode
from trueline.domain.runs import Purpose, Run
from trueline.domain.verdicts import Verdict
from trueline.errors import TruelineError, Unavailable
from trueline.gates import loop as gates_loop
from trueline.gates.decide import GateDecision
from trueline.monitoring import evaluation
from trueline.monitoring import loop as monitoring
from trueline.pipelines import schedule
from trueline.pipelines.loop import WORK
from trueline.pipelines.tracked import Feeder
from trueline.releases import delivery
from trueline.releases import loop as releases
from trueline.settings import StateFolder
from trueline.store import holders, rows, sqlite, tables
from trueline.store.database import Database
from trueline.store.engine import Store
from trueline.wiring.controllers import Controllers
from trueline.wiring.services import LocalServices

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PROJECT = Project(
    name="p",
    data=Data("rows.parquet", "y", "at"),
    train="model.py:fit",
    task="regression",
    release=ReleasePolicy(
        strategy=(Step("canary", 0.5), Step("full", 1.0)), guards=Guards(errors=2.0, floor=0.4, alpha=0.2, beta=0.4)
    ),
    retrain=Retrain(rehearse=timedelta(days=3), window=timedelta(days=7)),
)


class Crash(BaseException):
    """The process is gone: nothing of it runs any more."""


class Undying(sqlite3.Connection):
    """SQLAlchemy closes the connection of a process that crashed; the database must outlive it."""

    def close(self) -> None: ...


class PausingStore(Store):
    """A store that says when a transaction is about to begin."""

    def __init__(self, world: World, clock: Any) -> None:
        super().__init__(world.database, clock)
        self._world = world

    @contextmanager
    def begin(self) -> Iterator[Any]:
        assert not self._world.writing, "a transaction inside another"
        self._world.hit("begin")
        self._world.writing = True
        try:
            with super().begin() as tx:
                if self._guard is not None:
                    self._world.fences.append(self._guard.__self__._fence)  # type: ignore[attr-defined]
                yield tx
        finally:
            self._world.writing = False

    @contextmanager
    def read(self) -> Iterator[Any]:
        assert not self._world.writing, "a transaction inside another"
        self._world.hit("read")
        with super().read() as tx:
            yield tx


@dataclass
class Clock:
    """The world's time, as wrong as this machine has it."""

    world: World
    off: timedelta = timedelta(0)

    def now(self) -> datetime:
        return self.world.time + self.off

    def wall(self) -> datetime:
        return self.world.time + self.off


@dataclass
class Server:
    """A serving process as control sees it: epochs only grow, and a hold must be named to be ended."""

    table: RouteTable | None
    up: bool = True

    def answer(self, asked: dict[str, Any], keep: Callable[[RouteTable], None]) -> dict[str, Any]:
        current = self.table or RouteTable(0, "p")
        if asked["op"] == "route":
            table = decode(asked["table"])
            held = current.hold and not table.hold and asked.get("over_hold") != current.epoch
            if table != current and (table.epoch <= current.epoch or held):
                return {"ok": False, "error": "an older table, or held"}
            self.put(table, keep)
            return {"ok": True, "epoch": table.epoch}
        return {"ok": True, "epoch": current.epoch, "hold": current.hold, "table": encode(current)}

    def put(self, table: RouteTable, keep: Callable[[RouteTable], None]) -> None:
        assert self.table is None or table.epoch >= self.table.epoch, "a server's epoch went back"
        self.table = table
        keep(table)


@dataclass
class Tracker:
    """A tracking store: how often each thing was told, and what the aliases are."""

    told: dict[str, int] = field(default_factory=dict)
    aliases: dict[str, int | None] = field(default_factory=dict)
    hit: Callable[[str], None] = lambda _: None

    def run(self, run: Any) -> None:
        self._tell(f"run {run.run_id}")

    def version(self, version: Any) -> None:
        self._tell(f"version {version.version}")

    def alias(self, model: str, alias: str, version: int | None) -> None:
        self._tell(f"alias {alias} {version}")
        self.aliases[f"{model}/{alias}"] = version

    def close(self) -> None: ...

    def _tell(self, what: str) -> None:
        self.hit("track")
        self.told[what] = self.told.get(what, 0) + 1
        self.hit("tracked")


@dataclass(frozen=True)
class Snapshot:
    """The world at one instant, without its processes."""

    image: object  # of the database
    time: datetime
    servers: tuple[tuple[str, RouteTable | None, bool], ...]
    routes: str | None
    catalogue: str | None
    told: tuple[tuple[str, int], ...]
    aliases: tuple[tuple[str, int | None], ...]
    losses: tuple[float, ...]
    journal: str

    @property
    def key(self) -> object:
        return (
            self.image,
            self.time,
            self.servers,
            self.routes,
            self.catalogue,
            self.aliases,
            self.losses,
            self.journal,
        )


class World:
    hook: Callable[[str], None] | None = None
    fine = False  # whether the statements of a transaction are boundaries too, where they can be

    def __init__(self, root: Path) -> None:
        self.folder = StateFolder(root).create()
        self.raw: Any = None  # a connection beside those of the processes
        self.database = self.open()
        self.engine = self.database.engine
        tables.metadata.create_all(self.engine)
        self.time = START
        self.servers = {"serve-r0": Server(None), "serve-r1": Server(None)}
        self.tracker = Tracker(hit=self.hit)
        self.losses = (1.0,) * 8 + (5.0,) * 5 + (1.0,)  # of the blocks, by the day of the month
        self.journal = ""
        self.folder.journals.rmdir()
        self.use_journal("empty")
        self.writing = False
        self.acknowledged: list[tuple[str, str]] = []
        self.alive: set[str] = set()  # processes of which others do not know that they are gone
        self.fences: list[int] = []  # of the leaders whose writes were let through, in order

    def open(self) -> Database:
        """A new database, and `raw`, which is the only connection to it: a transaction stands still for nobody."""
        self.raw = sqlite3.connect(":memory:", isolation_level=None, factory=Undying, check_same_thread=False)
        self.raw.execute("PRAGMA page_size=1024")
        engine = create_engine("sqlite://", creator=lambda: self.raw, poolclass=StaticPool)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        return replace(sqlite.connect(Path(":memory:")), engine=engine)

    def image(self) -> Any:
        """All that is in the database."""
        return self.raw.serialize()

    def put_back(self, image: Any) -> None:
        if self.raw.in_transaction:
            self.raw.rollback()
        self.raw.deserialize(image)

    @contextmanager
    def dying(self) -> Iterator[None]:
        """While a process is killed."""
        yield
        if self.raw.in_transaction:
            self.raw.rollback()

    def watch_statements(self) -> None:
        """Be hit at every statement and commit of a write transaction too."""
        dialect: Any = self.engine.dialect
        commit = dialect.do_commit

        def statement(*_: object) -> None:
            if self.writing:
                self.hit("statement")

        def do_commit(connection: Any) -> None:
            if self.writing:
                self.hit("commit")
            commit(connection)
            if self.writing:
                self.hit("committed")

        event.listen(self.engine, "before_cursor_execute", statement)
        dialect.do_commit = do_commit

    def hit(self, name: str) -> None:
        if self.hook is not None:
            self.hook(name)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            self.image(),
            self.time,
            tuple((name, one.table, one.up) for name, one in self.servers.items()),
            *(path.read_text() if path.exists() else None for path in (self.folder.routes, self.folder.catalogue)),
            tuple(sorted(self.tracker.told.items())),
            tuple(sorted(self.tracker.aliases.items())),
            self.losses,
            self.journal,
        )

    def restore(self, kept: Snapshot) -> None:
        self.put_back(kept.image)
        self.time = kept.time
        self.servers = {name: Server(table, up) for name, table, up in kept.servers}
        for path, text in ((self.folder.routes, kept.routes), (self.folder.catalogue, kept.catalogue)):
            if text is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(text)
        self.tracker.told, self.tracker.aliases = dict(kept.told), dict(kept.aliases)
        self.losses = kept.losses
        self.use_journal(kept.journal)
        self.writing = False
        self.acknowledged, self.alive, self.fences = [], set(), []

    def journals(self, name: str) -> Path:
        """A folder of journals, beside the one that is looked at."""
        return self.folder.root / f"journal-{name}"

    def use_journal(self, name: str) -> None:
        """From now on this is what the servers have written."""
        if name != self.journal:
            self.journals(name).mkdir(exist_ok=True)
            self.folder.journals.unlink(missing_ok=True)
            self.folder.journals.symlink_to(self.journals(name))
            self.journal = name

    # -- what stands for the outside

    def ask(self, path: Path, message: dict[str, Any], *, timeout: float = 0.0) -> dict[str, Any]:
        del timeout
        server = self.servers[path.stem]
        if not server.up:
            raise Unavailable(f"{path.stem} does not answer on its socket") from ConnectionRefusedError()
        if message["op"] == "route":
            self.hit("push")
        answer = server.answer(message, self.keep)
        if message["op"] == "route":
            self.hit("pushed")
        if not answer["ok"]:
            raise Unavailable(answer["error"])
        return answer

    def ask_each(
        self, paths: Iterable[Path], message: dict[str, Any], *, timeout: float
    ) -> Iterator[tuple[Path, dict[str, Any] | Unavailable]]:
        for path in paths:
            try:
                yield path, self.ask(path, message, timeout=timeout)
            except Unavailable as problem:
                yield path, problem

    def sockets(self, folder: StateFolder) -> list[Path]:
        return [folder.socket(name) for name, server in sorted(self.servers.items()) if server.up]

    def keep(self, table: RouteTable) -> None:
        """What a serving process writes for its next start."""
        routefile.write(self.folder.routes, table)

    def restart(self, name: str) -> None:
        """A serving process starts from the file, and is told the rest by control."""
        self.servers[name] = Server(routefile.read(self.folder.routes))

    def override(self, version: int) -> None:
        """A person sends all traffic to one version, on every server."""
        for server in self.servers.values():
            if server.up and server.table and version in {route.version for route in server.table.routes}:
                epoch = server.table.epoch + 1
                server.put(server.table.only(version, epoch=epoch, hold=True), self.keep)

    def evidence(self, context: Context, opened: object, day: str) -> tuple[dict[str, Any], dict[str, Any]]:
        del context, opened
        loss = self.losses[min(len(self.losses), datetime.fromisoformat(day).day) - 1]
        served = {"n": 10, "loss": loss}
        coverage = {"predictions": 10, "labelled": 9}
        return {"served": served, "coverage": coverage, "pairs": [], "arms": {}, "drift": {}}, {}


def judged(context: Context, opened: object, gate: Any) -> tuple[GateDecision, None]:
    """Of four versions the third is a bad one."""
    del context, opened
    good = gate.version % 4 != 3
    return GateDecision(Verdict.passed if good else Verdict.failed, "as its number says", ()), None


@contextmanager
def effects(world: World) -> Iterator[None]:
    """The product's effects happen to this world."""
    real = os.replace

    def rename(draft: Path, path: Path) -> None:
        world.hit("rename")
        real(draft, path)
        world.hit("renamed")

    wanted = [
        (delivery, "ask", world.ask),
        (delivery, "_sockets", world.sockets),
        (delivery, "serving_sockets", world.sockets),
        (delivery, "ask_each", world.ask_each),
        (os, "replace", rename),
        (gates_loop, "evaluate", judged),
        (evaluation, "evaluate", world.evidence),
        (holders, "gone", lambda owner: owner not in world.alive),
        (Leadership, "keep", lambda *_: None),
        (work, "renewed", lambda *_: nullcontext()),  # no threads here, and time stands still while somebody works
        (journals, "ship", lambda _: world.hit("ship")),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in wanted]
    for module, name, value in wanted:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


@dataclass(frozen=True)
class MachineContext(Context):
    """Of a machine of its own: the simulated ones are all this process."""

    @property
    def holder(self) -> str:
        return self.actor


class Process:
    """One control process and worker on one machine, until it crashes."""

    births = 0

    def __init__(self, world: World, off: timedelta = timedelta(0), *, name: str | None = None) -> None:
        Process.births += 1
        self.world = world
        self.clock = Clock(world, off)
        actor = name or f"machine-{Process.births}"
        store = PausingStore(world, self.clock)
        self.context = MachineContext(PROJECT, world.folder.root, world.folder, store, self.clock, actor)
        world.alive.add(actor)
        self.leadership, turn = self._leader("control"), self._leader("tracking")
        self._turns = (self.leadership, turn)
        self._leading = replace(self.context, store=store.guarded(self.leadership.check))
        self._feeder = Feeder(self.context, lambda: world.tracker, turn=turn)
        self.services = LocalServices(self.context, Controllers(self.context), replaying=False)
        self.work: dict[str, Callable[[], bool]] = {
            "deliver": lambda: delivery.deliver(self.context.store, world.folder, "p"),
            "release": lambda: self._lead(releases.step),
            "monitor": lambda: self._lead(monitoring.step),
            "schedule": lambda: self._lead(schedule.step),
            "reconcile": lambda: bool(delivery.reconcile(self.context.store, world.folder, "p")),
            "block": lambda: evaluation.work_one(self.context, None),
            "gate": lambda: gates_loop.work_one(self.context, None),
            "train": self._train,
            "feed": self._feeder.work_one,
        }

    def do(self, name: str) -> bool:
        """One round of one kind of work, as the loop around it would take it: trouble is for the next round."""
        try:
            return self.work[name]()
        except TruelineError:
            return False

    def held(self) -> list[tuple[int | None, float]]:
        """What this process remembers of its leads, the only thing that it knows besides the database."""
        return [(turn._fence, turn._beaten) for turn in self._turns]

    def remember(self, held: list[tuple[int | None, float]]) -> None:
        for turn, (fence, beaten) in zip(self._turns, held, strict=True):
            turn._fence, turn._beaten = fence, beaten

    def _leader(self, role: str) -> Leadership:
        """A monotonic clock knows nothing of jumps."""
        world, me = self.world, self.context.actor

        def passed() -> float:
            return (world.time - START).total_seconds()

        return Leadership(self.context.store, "p", role=role, me=me, monotonic=passed)

    def _lead(self, controller: Callable[[Context], Round]) -> bool:
        return self.leadership.hold() and controller(self._leading).busy

    def _train(self) -> bool:
        """The worker's transactions around a training, without the training."""
        context = self.context
        claimed = work.claim(context, WORK)
        if claimed is None:
            return False
        with context.store.begin() as tx:
            run = rows.get(tx, Run, claimed.id)
            inputs = {"dataset": 1, "key": f"key of {run.id}", "key_parts": {}, "tree": "t"}
            runs.set_inputs(tx, run, claimed.fence, **inputs, window_from=run.window_from, cut_at=run.cut_at)
        self.world.hit("train")
        with context.store.begin() as tx:
            made = runs.Trained("sha256:0", "onnx", "regression", {"worst": 0.0}, {"mae": 1.0}, {})
            version = runs.succeed(tx, run, claimed.fence, made, actor=context.actor)
            if run.purpose is Purpose.manual:
                gates.request(tx, "p", version.number, actor=run.actor, reason=f"{run.id} made it")
        return True
