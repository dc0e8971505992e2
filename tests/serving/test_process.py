"""The real process with real packaged models: how it starts, ends, and what survives its death."""

from __future__ import annotations

import contextlib
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

import pytest
from serving_world import eventually, table

from trueline.domain import routes
from trueline.domain.routes import Arm, Route
from trueline.journal import segments
from trueline.journal.records import CrashRecord, LabelRecord, PredictionRecord, ShadowRecord
from trueline.settings import StateFolder

ROW = {"a": 0.5, "b": -1.0}


class Process:
    """`python -m trueline.serving` as a supervisor would run it."""

    def __init__(self, state: StateFolder, *arguments: str) -> None:
        self.state = state
        self.started = time.perf_counter()
        command = [sys.executable, "-m", "trueline.serving", "--state", str(state.root), "--port", "0", *arguments]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.popen.stdout.readline()
        assert line, self.popen.stderr.read()
        self.port = int(json.loads(line)["url"].rpartition(":")[2])

    def post(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def admin(self, op, **fields):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(self.state.socket("serve-r0")))
            connection.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
            return json.loads(connection.makefile("rb").readline())

    def end(self, how=signal.SIGTERM):
        self.popen.send_signal(how)
        _, errors = self.popen.communicate(timeout=20)
        return self.popen.returncode, errors


@pytest.fixture
def run(tmp_path):
    state = StateFolder(tmp_path / "state").create()
    started = []

    def start(*arguments: str) -> Process:
        started.append(Process(state, *arguments))
        return started[-1]

    start.state = state
    yield start
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.communicate()
    shutil.rmtree(state.socket("any").parent, ignore_errors=True)


def of(packaged, version, arm=Arm.champion, weight=1.0):
    return Route(version, arm, weight, str(packaged[version].folder), packaged[version].digest)


def records(state, kind):
    return [one for one, _ in segments.read(state.journal("r0")) if isinstance(one, kind)]


def test_real_models_side_by_side_survive_a_restart_without_control(run, packaged, record_property):
    process = run()
    routed = (of(packaged, 1), of(packaged, 2, Arm.shadow, 0), of(packaged, 3, Arm.shadow, 0))
    assert process.admin("route", table=routes.encode(table(routes=routed)))["ok"]
    status, answer = process.post("/predict", ROW)
    assert status == 200
    assert answer["predictions"] == pytest.approx([0.0], abs=1e-5)
    assert process.admin("status")["shadows"] == 2
    shadows = {one.version: one for one in records(run.state, ShadowRecord)}
    assert shadows[3].outcome == "answered"
    assert process.end() == (0, "")
    again = run()
    assert again.post("/predict", ROW)[1]["version"] == 1
    record_property("restart_to_first_prediction_s", round(time.perf_counter() - again.started, 2))
    assert len(records(run.state, PredictionRecord)) == 2


def test_a_digest_that_does_not_match_is_refused(run, packaged):
    process = run()
    wrong = Route(1, Arm.champion, 1.0, str(packaged[1].folder), packaged[2].digest)
    answer = process.admin("route", table=routes.encode(table(routes=(wrong,))))
    assert not answer["ok"]
    assert "is not the one that was registered" in answer["error"]
    lost = Route(3, Arm.champion, 1.0, str(packaged[3].folder), packaged[2].digest)
    answer = process.admin("route", table=routes.encode(table(routes=(lost,))))
    assert "is not the one that was registered" in answer["error"]


def received(metrics: str) -> bool:
    return "trueline_inference_in_progress 1" in metrics or 'code="200"' in metrics


def test_sigterm_answers_what_is_in_progress_and_refuses_what_is_new(run, packaged):
    process = run()
    assert process.admin("route", table=routes.encode(table(routes=(of(packaged, 3),))))["ok"]
    body = json.dumps({"instances": [ROW] * 2000}).encode()
    with socket.create_connection(("127.0.0.1", process.port), timeout=20) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: received(process.admin("metrics")["text"]))
        process.popen.send_signal(signal.SIGTERM)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 200")
    assert process.end() == (0, "")
    assert records(run.state, PredictionRecord)[0].rows == 2000


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--host", "0.0.0.0"], 7, "listening on 0.0.0.0 lets other machines in, and there is no token in"),  # noqa: S104
        (["--port", "{taken}"], 6, "port {taken} on 127.0.0.1 is in use; stop what listens there or choose another"),
        (["--host", "nowhere.invalid"], 7, "listening on nowhere.invalid lets other machines in"),
    ],
)
def test_what_keeps_it_from_starting_is_one_sentence_and_a_code(run, arguments, code, sentence):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        given = [one.replace("{taken}", port) for one in arguments]
        command = [sys.executable, "-m", "trueline.serving", "--state", str(run.state.root), "--port", "0", *given]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(sentence.replace("{taken}", port))
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--port", "99999"], ["--port", "http"], [], ["--nonsense"]])
def test_a_wrong_command_line_is_a_usage_error(tmp_path, arguments):
    command = [sys.executable, "-m", "trueline.serving", *(["--state", str(tmp_path)] if arguments else []), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m trueline.serving")


def test_beyond_loopback_every_request_needs_the_token_except_the_probes(run):
    run.state.token.write_text("secret\n")
    process = run("--host", "0.0.0.0")  # noqa: S104
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=20)
    with contextlib.closing(connection):
        for path, headers, status in (
            ("/livez", {}, 200),
            ("/v2/health/live", {}, 200),
            ("/metrics", {}, 401),
            ("/v2", {"Authorization": "Bearer wrong"}, 401),
            ("/nothing", {}, 401),
            ("/metrics", {"Authorization": "Bearer secret"}, 200),
        ):
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            response.read()
            assert response.status == status, path
            assert (response.getheader("WWW-Authenticate") == "Bearer") == (status == 401)


def test_the_server_imports_nothing_heavy():
    heavy = ("sqlalchemy", "mlflow", "pandas", "sklearn", "polars", "deltalake", "pyarrow", "onnxruntime", "scipy")
    code = f"import sys, trueline.serving.server; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.parametrize("iteration", range(4))
def test_killed_under_load_every_acknowledged_answer_is_in_the_journal_exactly_once(run, packaged, iteration):
    acknowledged: list[str] = []
    labelled: list[str] = []
    lock = threading.Lock()

    def load(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while True:
                connection.request("POST", "/predict", json.dumps(ROW), {"Content-Type": "application/json"})
                predictions = json.loads(connection.getresponse().read())
                label = {"prediction_id": predictions["prediction_ids"][0], "value": 1}
                with lock:
                    acknowledged.append(predictions["prediction_ids"][0].removesuffix("-0"))
                connection.request("POST", "/labels", json.dumps(label), {"Content-Type": "application/json"})
                answer = json.loads(connection.getresponse().read())
                with lock:
                    labelled.extend(answer["label_ids"])

    pair = (of(packaged, 1, weight=0.5), of(packaged, 2, Arm.canary, 0.5))
    for attempt in range(2):
        process = run()
        if attempt == 0:
            assert process.admin("route", table=routes.encode(table(routes=pair)))["ok"]
        before = len(acknowledged)
        threads = [threading.Thread(target=load, args=(process.port,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda wanted=before + 100 + 150 * iteration: len(acknowledged) > wanted)
        process.popen.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()
        process.popen.communicate()
    segments.seal(run.state.journal("r0"))
    stored = Counter(one.request_id for one in records(run.state, PredictionRecord))
    assert set(acknowledged) <= set(stored)
    assert set(stored.values()) == {1}
    labels = Counter(one.label_id for one in records(run.state, LabelRecord))
    assert set(labelled) <= set(labels)
    assert set(labels.values()) == {1}
    for crash in records(run.state, CrashRecord):
        assert crash.version in (1, 2)


def test_a_server_whose_supervisor_is_killed_ends_and_takes_its_children_along(run, packaged, tmp_path):
    script = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-m', 'trueline.serving', '--state', {str(run.state.root)!r},"
        " '--port', '0'], stdout=subprocess.PIPE, text=True)\n"
        "print(child.pid, child.stdout.readline(), flush=True)\n"
        "child.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline().split()[0])
        parent.kill()
    eventually(lambda: _gone(pid))
    del packaged, tmp_path


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123  an orphan in a container may stay a zombie
        return stat.read().split()[2] == "Z"
