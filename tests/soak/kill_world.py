"""A small project whose truth drifts, `trueline up` on it, a caller who does not give up, and a killer."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl

from trueline.cli.up import answers
from trueline.client import Client
from trueline.errors import TruelineError, Unavailable
from trueline.settings import StateFolder
from trueline.sockets import ask

START = datetime(2024, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(hours=8)
A_WAVE = 12  # requests at once
WAVES = (4, 20)  # in a tick: at least, and at most while control is busy with the tick before
PATIENCE = 60.0  # seconds that a caller goes on asking, or a test waits for a process
CALLERS = 3
NAMES = ("control", "serve", "worker", "ship")
SOON, LATER = 0.5, 5.5  # seconds between two kills, on average: of those that follow closely, and of the rest
CLOSELY = 0.7
IMPATIENCE = 0.15  # of kills that do not wait for the process to be at work again
PROJECT = """
version: 1
project: drifting
data: {source: rows.parquet, target: y, time: at, entity: id}
train: model.py:fit
task: regression
gates: {holdout: 6d}
release:
  strategy: [canary: [50%], full]
  guards: {errors: 2x, loss: 5%, floor: 20%, alpha: 0.05, beta: 0.2}
monitor: {labels: {expect_after: 8h}, loss: 10%, false_alarms: 1 per 365d}
retrain: {rehearse: daily, window: 5d, only_if: helps, cooldown: 1d}
"""
MODEL = """
from sklearn.linear_model import Ridge

def fit(frame, alpha=1.0):
    return Ridge(alpha=alpha).fit(frame.select("x", "z"), frame["y"])
"""


def truth(row: dict[str, float], at: datetime, luck: random.Random) -> float:
    """What x is worth grows from day to day."""
    days = (at - START) / DAY
    return (4 + 0.15 * days) * row["x"] + row["z"] + luck.gauss(0, 0.5)


def question(luck: random.Random, name: str, at: datetime) -> dict[str, object]:
    return {"id": name, "at": stamp(at), "x": luck.uniform(-3, 3), "z": luck.uniform(-1, 1)}


def stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def history(luck: random.Random) -> pl.DataFrame:
    rows = []
    for number in range(20 * 40):
        at = START - 20 * DAY + number * DAY / 40
        row = question(luck, f"old-{number}", at)
        rows.append({**row, "at": at, "y": truth(row, at, luck)})
    return pl.DataFrame(rows)


def poll(met, seconds: float = PATIENCE, what: str = "it"):
    """The first true answer of `met`, asked again and again."""
    deadline = time.monotonic() + seconds
    while not (found := met()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.05)
    return found


@dataclass
class World:
    folder: Path
    temp: Path
    up: subprocess.Popen[str] | None = None
    addresses: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path) -> World:
        (folder / "trueline.yaml").write_text(PROJECT)
        (folder / "model.py").write_text(MODEL)
        history(random.Random(1)).write_parquet(folder / "rows.parquet")
        return cls(folder, Path(tempfile.mkdtemp(prefix="soak-")))

    @property
    def state(self) -> StateFolder:
        return StateFolder(self.folder / ".trueline")

    @property
    def log(self) -> Path:
        return self.folder / "up.log"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"OMP_NUM_THREADS": "1", "TRUELINE_URL": "", "TMPDIR": str(self.temp)}

    def command(self, *words: str) -> list[str]:
        project = str(self.folder / "trueline.yaml")
        return [sys.executable, "-m", "trueline", *words, "--project", project, "--json"]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.up = subprocess.Popen(
                self.command("up", "--control-port", "0", "--serve-port", "0", "--replay"),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env=self.environment,
            )
        line = self.up.stdout.readline()
        assert line, self.log.read_text()[-2000:]
        self.addresses = json.loads(line)

    def run(self) -> None:
        """`trueline run` to its end, in one process."""
        ended = subprocess.run(
            self.command("run"), capture_output=True, text=True, env=self.environment, timeout=PATIENCE, check=False
        )
        assert ended.returncode == 0, ended.stderr[-2000:]

    def run_and_kill(self, after: float) -> None:
        with self.log.open("ab") as log:
            running = subprocess.Popen(self.command("run"), stdout=log, stderr=log, env=self.environment)
        try:
            running.wait(after)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()

    def client(self) -> Client:
        return Client.connect(self.state)

    def at_work(self, name: str, pid: int) -> bool:
        """Whether a process has come so far as to be of use."""
        match name:
            case "control":
                return answers(self.addresses["control"], "/readyz")
            case "serve":
                return answers(self.addresses["serve"], "/livez")
            case "worker":
                return self.state.bell(f"worker-{pid}").exists()
            case _:
                return bool(attempt(lambda: ask(self.state.socket("shipper-r0"), {"op": "ping"})))

    def patiently(self, act, *, seconds: float = 2 * PATIENCE):
        """Do it, and again while control is away."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return act()
            except Unavailable as problem:
                if self.up.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"not done within {seconds:g} s: {problem}") from problem
                time.sleep(0.1)

    def stop(self) -> int:
        """As an operator would."""
        self.up.send_signal(signal.SIGTERM)
        return self.up.wait(PATIENCE)

    def end(self) -> None:
        """Whatever happened: no process, no socket is left."""
        if self.up is not None:
            if self.up.poll() is None:
                self.up.kill()
                self.up.wait()
            self.up.stdout.close()
        for pid in mentioning(str(self.folder)):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.temp, ignore_errors=True)


# ---- processes -----------------------------------------------------------------------------------------------------


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def mentioning(text: str) -> list[int]:
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and text in command_of(pid)]


def children(parent: int) -> dict[str, int]:
    """The supervised processes that run now, by name."""
    modules = {"processes.control": "control", "serving": "serve", "processes.worker": "worker", "shipping": "ship"}
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    found = {}
    for pid in map(int, listed):
        for module, name in modules.items():
            if f"-m trueline.{module} " in command_of(pid):
                found[name] = pid
    return found


class Killer(threading.Thread):
    """Kills one supervised process after another, at moments that it draws: mostly one that is at work again, now and
    then one that is just starting."""

    def __init__(self, world: World, luck: random.Random, kills: int) -> None:
        super().__init__(name="killer", daemon=True)
        self._world = world
        self._luck = luck
        self._kills = kills
        self._killed: set[int] = set()
        self.done: list[str] = []
        self.stopping = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while len(self.done) < self._kills and not self.stopping.wait(self._gap()):
                name, pid = self._pick()
                if name == "serve":
                    self._kill_amid_a_request(pid)
                else:
                    os.kill(pid, signal.SIGKILL)
                self._killed.add(pid)
                self.done.append(name)
        except BaseException as problem:  # noqa: BLE001 the test raises it
            self.error = problem

    def _kill_amid_a_request(self, pid: int) -> None:
        """Nobody waits for its answer: it may be stored, or not."""
        row = question(self._luck, f"last-{pid}", START)
        headers = {"Content-Type": "application/json", "X-Trueline-Event-Time": stamp(START)}
        parts = urlsplit(self._world.addresses["serve"])
        with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=1.0)) as connection:
            with suppress(OSError):
                connection.request("POST", "/predict", json.dumps({"instances": [row]}).encode(), headers)
                time.sleep(self._luck.uniform(0, 0.003))
            os.kill(pid, signal.SIGKILL)

    def _gap(self) -> float:
        return self._luck.expovariate(1 / (SOON if self._luck.random() < CLOSELY else LATER))

    def _pick(self) -> tuple[str, int]:
        impatient = self._luck.random() < IMPATIENCE
        names = self._luck.sample(NAMES, len(NAMES))
        return poll(lambda: self._victim(names, impatient=impatient), what="the return of a process")

    def _victim(self, names: list[str], *, impatient: bool) -> tuple[str, int] | None:
        running = children(self._world.up.pid)
        for name in names:
            pid = running.get(name)
            if pid is not None and pid not in self._killed and (impatient or self._world.at_work(name, pid)):
                return name, pid
        return None


# ---- the caller ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predicted:
    prediction: float
    version: int


class Caller:
    """Asks, and tells the truth later; asks again what was not answered. Keeps what was acknowledged."""

    def __init__(self, url: str, luck: random.Random) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._mine = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._luck = luck
        self._pool = ThreadPoolExecutor(CALLERS)
        self._unlabelled: list[tuple[datetime, str, float]] = []
        self.predictions: dict[str, Predicted] = {}
        self.labels: dict[str, tuple[str, float]] = {}
        self.lost = 0  # answers that did not come
        self.asked = 0

    def live_through(self, until: datetime, busy: Callable[[], bool]) -> None:
        """Ask as long as control is busy, all of it within one tick; then tell what became known in it."""
        least, most = WAVES
        for wave in range(most):
            if wave >= least and not busy():
                break
            self._wave(until - TICK + TICK * wave / most)
            time.sleep(0.02)
        due = [one for one in self._unlabelled if one[0] <= until]
        self._unlabelled = [one for one in self._unlabelled if one[0] > until]
        telling = [self._pool.submit(self._tell, due[n : n + 8], until) for n in range(0, len(due), 8)]
        for future in telling:
            future.result()

    def close(self) -> None:
        self._pool.shutdown()
        for connection in self._connections:
            connection.close()

    def _wave(self, at: datetime) -> None:
        rows = [question(self._luck, f"new-{self.asked + n}", at) for n in range(A_WAVE)]
        self.asked += A_WAVE
        truths = [truth(row, at, self._luck) for row in rows]
        asking = [self._pool.submit(self._ask, row, at, value) for row, value in zip(rows, truths, strict=True)]
        for future in asking:
            future.result()

    def _ask(self, row: dict[str, object], at: datetime, value: float) -> None:
        body = json.dumps({"instances": [row]}).encode()
        told = self._post("/predict", body, {"X-Request-Id": row["id"], "X-Trueline-Event-Time": stamp(at)})
        for name, prediction in zip(told["prediction_ids"], told["predictions"], strict=True):
            assert name not in self.predictions
            self.predictions[name] = Predicted(prediction, told["version"])
            self._unlabelled.append((at + timedelta(hours=4), name, value))

    def _tell(self, labels: list[tuple[datetime, str, float]], at: datetime) -> None:
        said = [{"prediction_id": name, "value": value, "source": "landing"} for _, name, value in labels]
        told = self._post("/labels", json.dumps({"labels": said}).encode(), {"X-Trueline-Event-Time": stamp(at)})
        for label_id, one in zip(told["label_ids"], said, strict=True):
            assert label_id not in self.labels
            self.labels[label_id] = (one["prediction_id"], one["value"])

    def _post(self, path: str, body: bytes, headers: dict[str, object]) -> dict:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                status, answer = self._once(path, body, headers)
            except (OSError, http.client.HTTPException):
                self._mine.connection.close()
                self.lost += 1
            else:
                if status == 200:
                    return json.loads(answer)
                assert status == 503, f"{path} answered {status}: {answer[:300]!r}"
            assert time.monotonic() < deadline, f"{path} was not answered within {PATIENCE:g} s"
            time.sleep(0.05)

    def _once(self, path: str, body: bytes, headers: dict[str, object]) -> tuple[int, bytes]:
        if not hasattr(self._mine, "connection"):
            self._mine.connection = http.client.HTTPConnection(*self._address, timeout=15.0)
            self._connections.append(self._mine.connection)
        connection = self._mine.connection
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()


def attempt(act):
    """Ask for something once; None when it is refused, or the answer lost."""
    try:
        return act()
    except TruelineError:
        return None
