"""`trueline serve` as a user starts it, on two processes: routes under load, draining, and every way for one to die."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, suppress

import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from serving_world import eventually

from trueline import routefile
from trueline.domain.routes import Arm, Route, RouteTable
from trueline.errors import Unavailable
from trueline.journal import segments
from trueline.journal.records import CrashRecord, PredictionRecord
from trueline.releases import delivery
from trueline.settings import StateFolder
from trueline.sockets import ask

pytestmark = pytest.mark.real

ROW = {"a": 0.5, "b": -0.5}
ANSWER = {1: 0.5, 2: 1.0}
JSON = {"Content-Type": "application/json"}

# A version that takes its process along, or never comes back, when a file says so: in the server itself, not in a child.
DEADLY = """
import os, sys, time
from trueline.serving import scoreboard
begin = scoreboard.Scoreboard.begin
def deadly(self, version, requests, event_us, *rest):
    begin(self, version, requests, event_us, *rest)
    for what in ("crash", "hang"):
        try:
            os.unlink(os.path.join({folder!r}, f"{{what}}-{{version}}"))
        except FileNotFoundError:
            continue
        os.abort() if what == "crash" else time.sleep(60)
scoreboard.Scoreboard.begin = deadly
from trueline.serving.__main__ import main
sys.exit(main())
"""
SERVE = """
import sys
from trueline.cli import main, model_server
module = model_server.ModelServer.module
def deadly(self, name, *options):
    command = module(self, name, *options)
    return (command[0], {script!r}, *command[3:]) if name == "serving" else command
model_server.ModelServer.module = deadly
sys.exit(main.main(sys.argv[1:]))
"""


class Serve:
    """The command in a process of its own."""

    def __init__(self, root, *options, program=("-m", "trueline")):
        self.state = StateFolder(root)
        command = [sys.executable, *program, "serve", "--state", str(root), "--port", "0", "--json", *options]
        with (root / "stderr").open("a") as said:
            self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, cwd=root)
        with self.popen.stdout as told:
            line = told.readline()
        assert line, self.said()
        self.port = int(json.loads(line)["url"].rpartition(":")[2])

    def said(self):
        return (self.state.root / "stderr").read_text()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def predict(self, connection=None):
        """What a row comes to: on a connection that is kept, or on one of its own."""
        if connection is None:
            with closing(self.connect()) as own:
                return self.predict(own)
        connection.request("POST", "/predict", json.dumps(ROW), JSON)
        response = connection.getresponse()
        return response, json.loads(response.read())

    def metrics(self):
        with closing(self.connect()) as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        return {(one.name, *sorted(one.labels.items())): one.value for family in parse(text) for one in family.samples}

    def status(self, replica):
        return ask(self.state.socket(f"serve-{replica}"), {"op": "status"})

    def pid(self, replica):
        return int(self.status(replica)["pid"])

    def ended(self, replica, pid):
        """Whether another process has taken its place."""
        try:
            return self.pid(replica) != pid
        except Unavailable:
            return False

    def put(self, table):
        delivery._push(self.state, table, frozenset())

    def records(self, kind):
        return [
            one for name in ("r0", "r1") for one, _ in segments.read(self.state.journal(name)) if isinstance(one, kind)
        ]

    def end(self, how=signal.SIGTERM):
        self.popen.send_signal(how)
        return self.popen.wait(30)


class Load:
    """Callers with connections of their own, which they keep as HTTP says and open again when they are closed."""

    def __init__(self, server, callers=6):
        self.server, self.stopping = server, threading.Event()
        self.statuses, self.versions, self.broken, self.goodbyes = Counter(), Counter(), [], 0
        self.ids = []
        self.threads = [threading.Thread(target=self._call, daemon=True) for _ in range(callers)]

    def __enter__(self):
        for one in self.threads:
            one.start()
        eventually(lambda: self.statuses[200] > 50)
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for one in self.threads:
            one.join(30)

    def _call(self):
        with closing(self.server.connect()) as connection:
            self._talk(connection)

    def _talk(self, connection):
        while not self.stopping.is_set():
            try:
                if connection.sock is None:
                    connection.connect()
            except ConnectionRefusedError:  # nobody listens any more: this request was never begun
                return
            try:
                response, answer = self.server.predict(connection)
            except (OSError, http.client.HTTPException) as problem:
                self.broken.append(repr(problem))
                connection.close()
                continue
            self.statuses[response.status] += 1
            if response.status != 200:
                self.broken.append(str(answer))
            self.versions[answer.get("version")] += 1
            self.ids += answer.get("prediction_ids", [])
            self.goodbyes += response.getheader("connection") == "close"


@pytest.fixture
def serve(tmp_path, packaged):
    """Start `trueline serve` on a state folder whose last route table sends everything to version 1."""
    root = tmp_path / "state"
    state = StateFolder(root).create()
    routefile.write(state.routes, table(packaged, 1, 1))
    started = []

    def start(*options, **more):
        started.append(Serve(root, *options, **more))
        return started[-1]

    start.state = state
    yield start
    for one in started:
        if one.popen.poll() is None:
            one.end()
    shutil.rmtree(state.sockets, ignore_errors=True)


def of(packaged, version, arm=Arm.champion, weight=1.0):
    return Route(version, arm, weight, str(packaged[version].folder), packaged[version].digest)


def table(packaged, version, epoch):
    return RouteTable(epoch, "m", (of(packaged, version),), salt="s")


def test_twenty_swaps_under_load_on_two_processes_fail_no_request(serve, packaged, record_property):
    server = serve("--processes", "2")
    for epoch, version in ((2, 2), (3, 1)):  # both are loaded, as after a canary
        server.put(table(packaged, version, epoch))
    taken = []
    with Load(server) as load:
        for epoch in range(4, 24):
            before = time.perf_counter()
            server.put(table(packaged, 1 + epoch % 2, epoch))
            taken.append(time.perf_counter() - before)
            for replica in ("r0", "r1"):
                assert server.status(replica)["epoch"] == epoch
            assert {server.predict()[1]["version"] for _ in range(4)} == {1 + epoch % 2}
    assert (set(load.statuses), load.broken) == ({200}, [])
    assert set(load.versions) == {1, 2}
    print(f"slowest acknowledgement of 20: {max(taken) * 1e3:.1f} ms, {sum(load.statuses.values())} answers meanwhile")  # noqa: T201
    record_property("slowest_acknowledgement_ms", round(max(taken) * 1000, 2))


def test_one_of_two_that_is_ended_drains_and_comes_back_without_a_failed_request(serve):
    server = serve("--processes", "2")
    with Load(server) as load:
        for replica in ("r0", "r1", "r0"):  # one by one, as for a new trueline
            pid = server.pid(replica)
            os.kill(pid, signal.SIGTERM)
            eventually(lambda replica=replica, pid=pid: server.ended(replica, pid))
    assert (set(load.statuses), load.broken) == ({200}, [])
    assert load.goodbyes >= 3, "clients that keep their connection are told that it closes"
    assert "serve/r0 ended with exit code 0" in server.said()


@pytest.mark.parametrize("processes", [1, 2])
def test_all_are_replaced_one_by_one_beside_a_spare_one_without_a_failed_request(serve, processes):
    server = serve("--processes", str(processes))
    names = [f"r{number}" for number in range(processes)]
    spare = server.state.journal(f"r{processes}")
    pids = {name: server.pid(name) for name in names}
    with Load(server) as load:
        for times in (1, 2):
            server.popen.send_signal(signal.SIGUSR1)
            eventually(lambda times=times: server.said().count("all were replaced, one by one") == times, 120.0)
            before, pids = pids, {name: server.pid(name) for name in names}
            assert not set(before.values()) & set(pids.values())
        eventually(lambda: not server.state.socket(f"serve-{spare.name}").exists())
    # a machine that is busy with other things may turn somebody away, who asks again; nothing else may go wrong
    assert [one for one in load.broken if "more requests wait for" not in one] == []
    assert set(load.statuses) <= {200, 429}
    assert all(server.predict()[0].status == 200 for _ in range(20))
    assert server.end() == 0
    shipped = Counter(pl.read_delta(str(server.state.table("predictions")))["prediction_id"].to_list())
    assert set(load.ids) <= shipped.keys()
    assert any(one.startswith(f"{spare.name}-") for one in shipped), "what the spare one answered is shipped too"
    assert max(shipped.values()) == 1


def test_the_whole_drains_on_sigterm(serve):
    server = serve("--processes", "2")
    with Load(server) as load:
        assert server.end() == 0
        eventually(lambda: not any(one.is_alive() for one in load.threads))
    assert (set(load.statuses), load.broken) == ({200}, [])
    assert load.goodbyes >= len(load.threads)
    answered = {one.request_id for one in server.records(PredictionRecord)}
    assert {one.rpartition("-")[0] for one in load.ids} <= answered


def test_one_that_is_killed_leaves_the_other_answering_and_the_counters_never_fall(serve):
    server = serve("--processes", "2")
    counted = []
    key = ("trueline_journal_records_total", ("kind", "predictions"))
    with Load(server) as load:
        for replica in ("r0", "r1", "r0"):
            counted.append(server.metrics()[key])
            pid = server.pid(replica)
            os.kill(pid, signal.SIGKILL)
            while not server.ended(replica, pid):
                with suppress(ConnectionResetError):  # it waited in the queue of the one that was killed
                    response, _ = server.predict()  # on a new connection: always somebody answers
                    assert response.status == 200
                    counted.append(server.metrics()[key])
        counted.append(server.metrics()[key])
    assert set(load.statuses) == {200}
    assert counted == sorted(counted)
    assert len(load.ids) == len(set(load.ids)), "ids stay unique"
    records = Counter(one.request_id for one in server.records(PredictionRecord))
    assert max(records.values()) == 1
    assert {one.rpartition("-")[0] for one in load.ids} <= records.keys()
    assert not server.state.contained.exists(), "a signal from outside accuses no version"


def test_without_any_control_plane_it_serves_on_after_its_own_death(serve, packaged):
    first = serve("--processes", "2")
    first.put(table(packaged, 2, 2))
    before = first.predict()[1]
    for replica in ("r0", "r1"):
        os.kill(first.pid(replica), signal.SIGKILL)
    first.end(signal.SIGKILL)
    second = serve("--processes", "2")
    after = second.predict()[1]
    assert (after["predictions"], after["version"]) == (before["predictions"], before["version"])
    assert (after["predictions"], after["version"]) == (pytest.approx([ANSWER[2]]), 2)
    assert after["prediction_ids"] != before["prediction_ids"]
    assert {second.status(replica)["epoch"] for replica in ("r0", "r1")} == {2}


@pytest.fixture
def deadly(serve, tmp_path):
    """The same with versions that crash or hang in the server as soon as the folder has `crash-N` or `hang-N`."""
    script = tmp_path / "deadly.py"
    script.write_text(DEADLY.format(folder=str(tmp_path)))

    def start(*options):
        return serve(*options, program=("-c", SERVE.format(script=str(script))))

    return start


@pytest.mark.parametrize(
    ("how", "words"), [("crash", "died (aborted) while it was scoring"), ("hang", "did not come to an end scoring")]
)
def test_a_version_that_its_process_died_of_answers_from_a_process_of_its_own(deadly, tmp_path, how, words):
    server = deadly("--processes", "2")
    kinds = {one["executor"] for one in server.status("r0")["loaded"]}
    pids = {replica: server.pid(replica) for replica in ("r0", "r1")}
    (tmp_path / f"{how}-1").touch()
    with pytest.raises((OSError, http.client.HTTPException)):
        [server.predict() for _ in range(100)]
    died = eventually(lambda: next((name for name, pid in pids.items() if server.ended(name, pid)), None))
    eventually(lambda: server.status(died)["loaded"])
    status = server.status(died)
    (kept_apart,) = status["contained"]
    assert kept_apart["version"] == 1
    assert words in kept_apart["reason"]
    answers = [server.predict()[1] for _ in range(20)]
    assert {(one["version"], round(*one["predictions"], 5)) for one in answers} == {(1, ANSWER[1])}
    (crash,) = server.records(CrashRecord)
    assert (crash.version, crash.in_flight) == (1, 1)
    assert server.metrics()["trueline_process_crashes_total", ("model", "m"), ("version", "1")] == 1
    assert "version 1 gets a process of its own from now on" in server.said()
    os.kill(status["pid"], signal.SIGTERM)  # and it stays apart
    eventually(lambda: server.ended(died, status["pid"]))
    eventually(lambda: server.status(died)["contained"] == [kept_apart])
    assert kinds == {"onnx"}
    assert server.predict()[0].status == 200


def test_a_port_in_use_is_one_sentence(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "trueline", "serve", "--state", str(serve.state.root), "--port", str(port)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=serve.state.root)
    assert ran.returncode == 6
    assert (
        ran.stderr
        == f"trueline: port {port} on 127.0.0.1 is in use; stop what listens there or choose another --port\n"
    )


def test_one_packaged_model_is_served_by_its_folder_and_another_content_is_another_version(serve, packaged, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    for version, expected in ((1, 1), (2, 2), (2, 2)):
        shutil.rmtree(here / "model", ignore_errors=True)
        shutil.copytree(packaged[version].folder, here / "model")
        server = serve("--model", str(here / "model"), "--name", "fares")
        answer = server.predict()[1]
        assert (answer["model"], answer["version"]) == ("fares", expected)
        assert answer["predictions"] == pytest.approx([ANSWER[version]])
        assert server.end() == 0
    journal = StateFolder(serve.state.root / "served" / "fares").journal("r0")
    assert [one.version for one, _ in segments.read(journal)][-1] == 2


def test_a_signature_that_is_required_keeps_the_model_out(serve):
    (serve.state.root / "trueline.yaml").write_text(
        "version: 1\nproject: m\ndata: {source: a.csv, target: y}\ntrain: m.py:fit\nserve: {require_signature: true}\n"
    )
    server = serve()
    assert server.predict()[0].status == 503
    assert "is not signed (it has no model.sig), and only signed ones load" in server.said()
