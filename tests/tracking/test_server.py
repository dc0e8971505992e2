"""Telling MLflow's own server through a line that fails in every way, and through its death: in the end all is there once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from readers import MlflowReader

from mlflow_server import Line, MlflowServer, Request
from trueline.errors import InvalidInput, NotAllowed, NotAuthenticated, TruelineError, Unavailable
from trueline.tracking.entries import Ended, Input, Metric, Model, Nested, Param, Tag, encode
from trueline.tracking.journal import Journal
from trueline.tracking.mlflow_store import MlflowTracking
from trueline.tracking.store import TrackedRun, TrackedVersion

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # MLflow 3.17 on SQLAlchemy 2.1
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]

START = datetime(2026, 1, 1, tzinfo=UTC)
AT = 1_767_225_600_000
POINTS = 1_900  # three batches


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with everything a training can leave there."""
    folder = tmp_path_factory.mktemp("run")
    written = Journal(folder)
    entries = [
        Param("depth", "6"),
        Tag("team", "growth"),
        Nested("inner", "fold 1", AT),
        Metric("score", 0.5, 0, AT + 1, "inner"),
        Ended("inner", "FINISHED", AT + 2),
        Input({"name": "rows", "digest": "d1", "source_type": "code", "source": "{}"}),
        Model("m-1", "forest", None, {"trees": "10"}),
        *(Metric("loss", 1 / (number + 1), number, AT + number) for number in range(POINTS)),
    ]
    written.append("".join(map(encode, entries)))
    written.close()
    files = ("log.txt", "mlflow/artifacts/plots/a.txt", "mlflow/models/m-1/MLmodel", "mlflow/models/m-1/model.bin")
    for name in (*files, "mlflow/runs/inner/artifacts/c.txt", "model/MLmodel", "model/model.onnx"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"run_id: {name}\n" * 50)
    return folder


class Teller:
    """Tells one run, its version and its alias, as a project of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.name = f"flights-{uuid.uuid4().hex[:8]}"
        self.deployment = uuid.uuid4().hex
        self.tracking = MlflowTracking(url, folder / "none", self.deployment)

    def again(self) -> None:
        """As a new process would."""
        self.tracking = MlflowTracking(self.url, self.folder / "none", self.deployment)

    def tell(self) -> None:
        run = TrackedRun(
            "run-1", self.name, "FINISHED", START, START + timedelta(hours=1), {"a": "1"}, {"mae": 3.5}, {}
        )
        self.tracking.run(replace(run, folder=self.folder))
        self.tracking.version(TrackedVersion(self.name, 1, "run-1", self.folder / "model", "sha256:aa"))
        self.tracking.alias(self.name, "champion", 1)
        self.tracking.alias(self.name, "challenger", None)

    def keep_telling(self) -> None:
        for _ in range(200):
            self.tell()

    def insist(self, *, most: int = 400) -> list[TruelineError]:
        """Tell until it goes through; what went wrong on the way."""
        problems: list[TruelineError] = []
        while len(problems) < most:
            try:
                self.tell()
            except TruelineError as problem:
                problems.append(problem)
                self.again()
            else:
                return problems
        raise AssertionError(problems[-1])

    def found(self, direct: str) -> dict[str, Any]:
        """What a client of MLflow finds in the end."""
        reader = MlflowReader(direct, self.deployment)
        client = reader.client
        (version,) = client.search_model_versions(f"name = '{self.name}'")
        source = version.source.partition("/artifacts/")[2]
        return {
            "run": reader.run("run-1"),
            "runs": reader.runs(),
            "nested": reader.nested("run-1"),
            "inputs": reader.inputs("run-1"),
            "models": reader.models("run-1"),
            "loss": reader.history("run-1", "loss"),
            "version": (version.version, version.status, source, version.tags["trueline.digest"]),
            "alias": reader.alias(self.name, "champion"),
            "aliases": set(client.get_registered_model(self.name).aliases),
        }


@pytest.fixture(scope="module")
def undisturbed(mlflow_server: MlflowServer, folder: Path) -> dict[str, Any]:
    teller = Teller(mlflow_server.url, folder)
    teller.tell()
    found = teller.found(mlflow_server.url)
    assert found["runs"] == 2
    assert len(found["loss"]) == POINTS
    assert found["models"] == ["forest"]
    assert found["version"] == ("1", "READY", "model", "sha256:aa")
    assert found["aliases"] == {"champion"}
    assert found["run"]["files"] == {"log.txt", "plots/a.txt", "model/MLmodel", "model/model.onnx"}
    return found


@pytest.fixture
def teller(mlflow_line: Line, folder: Path) -> Iterator[Teller]:
    found = Teller(mlflow_line.url, folder)
    yield found
    found.tracking.close()


def each_call_fails_once(*faults: str | int) -> Callable[[Line, Request], str | int | None]:
    """The next of these faults for each different request, the first time it comes."""
    known: set[tuple[str, str, bytes]] = set()

    def decide(_line: Line, request: Request) -> str | int | None:
        said = (request.method, request.path, request.body)
        if said in known:
            return None
        known.add(said)
        return faults[len(known) % len(faults)]

    return decide


@pytest.mark.parametrize("faults", [("lose",), ("half", 503, "drop", 429)], ids=["lost", "refused"])
def test_whatever_call_fails_in_the_end_all_is_there_once(
    mlflow_server: MlflowServer,
    mlflow_line: Line,
    teller: Teller,
    undisturbed: dict[str, Any],
    faults: tuple[str | int, ...],
) -> None:
    mlflow_line.fault = each_call_fails_once(*faults)
    problems = teller.insist()
    assert len(problems) > 20
    assert {type(one) for one in problems} == {Unavailable}
    assert teller.found(mlflow_server.url) == undisturbed


def test_a_slow_server_that_does_a_thing_after_we_gave_up_leaves_no_second_run(
    mlflow_server: MlflowServer,
    mlflow_line: Line,
    teller: Teller,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    held, carried_out = threading.Event(), threading.Event()

    def hold_the_first_run(line: Line, request: Request) -> str | int | None:
        creates = [one for one in line.seen if one.call == "runs/create" and b'"run-1"' in one.body]
        if request.call == "runs/create" and request is creates[0]:
            assert held.wait(60)
            return "lose"
        if request.call == "runs/log-batch" and not carried_out.is_set():
            held.set()
            reader = MlflowReader(mlflow_server.url, teller.deployment)
            while sum("/" not in one.data.tags["trueline.run_id"] for one in reader._runs()) < 2:
                threading.Event().wait(0.02)
            carried_out.set()
        return None

    mlflow_line.fault = hold_the_first_run
    with pytest.raises(Unavailable, match="cannot be told anything now: it did not answer in time"):
        teller.tell()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    teller.again()
    teller.insist()
    assert carried_out.is_set()
    assert teller.found(mlflow_server.url) == undisturbed


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        (401, NotAuthenticated, r"does not accept these credentials \(401\): set MLFLOW_TRACKING_USERNAME"),
        (403, NotAllowed, r"forbids it \(403.*--allowed-hosts"),
        (429, Unavailable, r"asks for fewer requests \(429\)"),
        (502, Unavailable, "cannot be told anything now: it answered 502"),
        (404, InvalidInput, r"refused \(404\)"),
    ],
)
def test_every_answer_is_one_sentence(
    mlflow_line: Line, teller: Teller, answer: int, kind: type[TruelineError], sentence: str
) -> None:
    mlflow_line.fault = lambda _line, _request: answer
    with pytest.raises(kind, match=sentence) as caught:
        teller.tell()
    assert "\n" not in str(caught.value)
    assert mlflow_line.url in str(caught.value)


def test_credentials_of_the_address_reach_the_server_and_no_message(
    mlflow_line: Line, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    given: list[str | None] = []
    teller = Teller(mlflow_line.url.replace("//", "//ada:s%40cret@"), folder)
    credentials = teller.tracking._runs.get_host_creds()
    given += [credentials.username, credentials.password, credentials.host]
    assert given == ["ada", "s@cret", mlflow_line.url]
    mlflow_line.fault = lambda _line, _request: 401
    with pytest.raises(NotAuthenticated) as caught:
        teller.tell()
    assert "cret" not in str(caught.value)


def test_a_server_killed_in_the_middle_of_a_batch_is_told_the_rest_when_it_is_back(
    mlflow_server: MlflowServer, mlflow_line: Line, teller: Teller, undisturbed: dict[str, Any]
) -> None:
    batches = 0

    def kill_at_the_second_batch(_line: Line, request: Request) -> str | None:
        nonlocal batches
        batches += request.call == "runs/log-batch" and len(request.body) > 50_000
        if batches == 2:
            batches += 1
            threading.Thread(target=mlflow_server.kill).start()  # while the batch is on its way
        return None

    mlflow_line.fault = kill_at_the_second_batch
    try:
        with pytest.raises(Unavailable, match="cannot be told anything now"):
            teller.keep_telling()  # the kill may come a little late
    finally:
        mlflow_server.kill()
        mlflow_server.launch()
        mlflow_server.wait()
    teller.again()
    teller.insist()
    assert teller.found(mlflow_server.url) == undisturbed
