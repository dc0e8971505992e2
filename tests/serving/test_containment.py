"""What a model does to itself, to its process and to the pipe stays there: the champion answers, and the event says which."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import uvloop
from serving_world import SIGNATURE, Fake, eventually, route, table

from trueline.domain.routes import Arm
from trueline.errors import PackagingFailed
from trueline.journal.records import PredictionRecord
from trueline.serving import children, memory, scoreboard
from trueline.serving.children import Child
from trueline.serving.life import Life
from trueline.serving.limits import Limits
from trueline.serving.pipe import LENGTH, Garbled, Inbox, Values, frame
from trueline.serving.runners import Batch, Scored
from trueline.serving.scoreboard import Scoreboard, Unfinished

BESIDE = (route(1, weight=0.0), route(2, Arm.canary, 1.0))

WICKED = """
import ctypes, faulthandler, os, signal, socket, struct, sys, threading, time
import numpy as np
from trueline.serving import child
from trueline.serving.pipe import LENGTH, Refused, Values, frame

asked = 1  # the number of the first batch
pipe = socket.socket(fileno=int(sys.argv[1]))
os.register_at_fork(after_in_child=pipe.close)
kept = []

def forked():
    if os.fork() == 0:  # holds everything but the pipe open, and outlives the rest
        time.sleep(600)
    os._exit(1)

def answering_fork():
    os.fork()  # both go on and answer

def closes():
    pipe.close()
    time.sleep(600)

def deep(n=0):
    return deep(n + 1)

def shouting(x):
    for stream in (1, 2):
        os.write(stream, b"\\n" * 300_000)
    print("no matter" * 1000)
    return np.array(x)

def leaking(x):
    kept.append(np.ones(40_000_000 // 8))
    return np.array(x)

DEEDS = {
    101: lambda x: time.sleep(600),
    102: lambda x: os.abort(),
    103: lambda x: os.kill(os.getpid(), signal.SIGSEGV),
    104: lambda x: os._exit(3),
    105: lambda x: sys.exit(4),
    106: lambda x: os.kill(os.getpid(), signal.SIGKILL),
    107: lambda x: forked(),
    108: lambda x: closes(),
    109: lambda x: pipe.sendall(os.urandom(100)) or time.sleep(600),
    110: lambda x: pipe.sendall(LENGTH.pack(2**32 - 1) + bytes(100)) or time.sleep(600),
    111: lambda x: pipe.sendall(frame(Values(99, 1, bytes(8)))) or time.sleep(600),
    112: lambda x: pipe.sendall(LENGTH.pack(3) + b"\\xc1\\xc1\\xc1") or time.sleep(600),
    113: lambda x: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()) is None or time.sleep(600),
    114: lambda x: threading.Thread(target=os.abort).start() or time.sleep(600),
    115: lambda x: pipe.sendall(frame(Values(asked, -1, bytes(8)))) or time.sleep(600),
    116: lambda x: pipe.sendall(frame(Values(asked, 2**63, bytes(8)))) or time.sleep(600),
    117: lambda x: pipe.sendall(frame(Refused(asked, 1, "failed", "no" * 1_000_000))) or time.sleep(600),
    201: lambda x: 1 / 0,
    202: lambda x: np.array(x) * np.nan,
    203: lambda x: np.array(x) * np.inf,
    204: lambda x: np.zeros(len(x) + 1),
    205: lambda x: np.zeros((len(x), 2)),
    206: lambda x: None,
    207: lambda x: "seven",
    208: lambda x: np.array([object()] * len(x)),
    209: lambda x: np.array(x) * 1j,
    210: lambda x: deep(),
    211: lambda x: np.ones(10**15),
    212: lambda x: np.array(["seven"] * len(x)),
    301: shouting,
    302: lambda x: answering_fork() or np.array(x),
    303: leaking,
}

class Executor:
    kind, in_process, signature = "fake", False, None
    def predict(self, columns):
        x = columns["x"]
        return DEEDS[int(x[0])](x) if int(x[0]) in DEEDS else np.array(x, dtype=float) * 100

child.serve(pipe, Executor())
"""


def row(x):
    return {"x": x, "n": 1}


@pytest.fixture
def wicked(serve, monkeypatch):
    """Champion 1 in the server, version 2 with all the traffic in a child that does what x says."""
    monkeypatch.setattr(children, "FIRST_PAUSE", 0.01)

    def start(routes=BESIDE, **limits):
        server = serve({1: Fake(1), 2: "child"}, **{"batch_seconds": 0.4, **limits})
        server._script.write_text(WICKED)
        assert server.put(table(routes=routes))["ok"]
        return server

    return start


def process(server):
    return server.call(lambda: server.server.plane.versions.pinned(2).runner.pid)


def restarts(server):
    return server.metric('trueline_executor_restarts_total{model="m",version="2"}')


LOST = [
    (101, "timed_out: it gave no answer within 0.4 s and its process was killed"),
    (102, "failed: its process died"),
    (107, "failed: its process died"),
    (110, "failed: it announced an answer of 4294967295 bytes"),
    (116, "failed: it sent what is no answer: Expected `int` <= 1000000000000"),
]
LOST_TOO = [
    (103, "failed: its process died"),
    (104, "failed: its process died"),
    (105, "failed: its process died"),
    (106, "failed: its process died"),
    (108, "failed: it closed its pipe"),
    (109, None),
    (111, "failed: it answered what it was not asked"),
    (112, "failed: it sent what is no answer: "),
    (113, "timed_out: it gave no answer within 0.4 s and its process was killed"),
    (114, "failed: its process died"),
    (115, "failed: it sent what is no answer: Expected `int` >= 0"),
    (117, "failed: it sent what is no answer: Expected `str` of length <= 1000"),
]


@pytest.mark.parametrize(("x", "why"), [*LOST, *(pytest.param(*one, marks=pytest.mark.real) for one in LOST_TOO)])
def test_a_process_that_is_lost_costs_its_own_requests_their_version_and_comes_back(wicked, x, why):
    server = wicked()
    before = process(server)
    reply = server.post("/predict", row(x))
    assert (reply.status, reply.json["version"], reply.json["predictions"]) == (200, 1, [x])
    (record,) = server.records(PredictionRecord)
    assert (record.version, record.outcome, record.answered_by) == (2, "fell_back", 1)
    assert record.error.startswith(why or "failed: it ")
    assert eventually(lambda: server.post("/predict", row(1)).json["version"] == 2)
    assert process(server) != before
    assert restarts(server) == 1
    eventually(lambda: not group_exists(before))


def group_exists(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


WRONG = {
    201: "failed: ZeroDivisionError: division by zero",
    202: "invalid_output: the model gave nan at row 0, expected a finite number",
    203: "invalid_output: the model gave inf at row 0, expected a finite number",
    204: "invalid_output: the model gave (2,) for 1 rows, expected (1,)",
    205: "invalid_output: the model gave (1, 2) for 1 rows, expected (1,)",
    206: "invalid_output: the model gave NoneType for 1 rows, expected (1,)",
    207: "invalid_output: the model gave str for 1 rows, expected (1,)",
    208: "invalid_output: the model gave values of type object, expected numbers",
    209: "invalid_output: the model gave values of type complex128, expected numbers",
    210: "failed: RecursionError: maximum recursion depth exceeded",
    212: "invalid_output: the model gave values of type <U5, expected numbers",
    211: "failed: ",  # the last one: a version that got no memory is replaced
}


def test_a_wrong_answer_costs_the_process_nothing(wicked):
    server = wicked()
    before = process(server)
    for x in WRONG:
        reply = server.post("/predict", row(x))
        assert (reply.status, reply.json["version"]) == (200, 1)
        if x != 211:
            assert server.post("/predict", row(1)).json["version"] == 2
    assert process(server) == before
    found = {one.features["x"][0]: one for one in server.records(PredictionRecord)}
    for x, why in WRONG.items():
        record = found[x]
        assert (record.version, record.outcome, record.answered_by) == (2, "fell_back", 1)
        assert record.error.startswith(why), record.error


def test_shouting_hurts_nobody(wicked):
    server = wicked()
    assert server.post("/predict", row(301)).json["version"] == 2
    assert server.post("/predict", row(1)).json["version"] == 2
    assert restarts(server) == 0


def test_what_a_model_forks_cannot_answer_in_its_place(wicked):
    server = wicked()
    for x in (302, 302, 1, 2, 3):
        reply = server.post("/predict", row(x))
        assert (reply.json["version"], reply.json["predictions"]) == (2, [x if x == 302 else x * 100])
    assert restarts(server) == 0


def test_a_version_that_leaks_is_replaced_between_two_batches_and_no_request_fails(wicked):
    """Each request leaves 40 MB behind; a fresh process has about 80 MB."""
    server = wicked(child_bytes=250_000_000, memory_seconds=0.02, batch_seconds=20.0)
    if memory.resident(os.getpid()) is None:
        pytest.skip("no /proc here: memory is not watched")
    before = process(server)
    sent = 0

    def replaced() -> bool:
        nonlocal sent
        if (memory.resident(before) or 0) < 350_000_000:
            sent += 1
            assert server.post("/predict", row(303)).json["version"] == 2
        return process(server) != before

    eventually(replaced)
    assert restarts(server) >= 1
    assert [one.outcome for one in server.records(PredictionRecord)] == ["answered"] * sent
    eventually(lambda: not group_exists(before))


def test_requests_of_a_champion_that_is_being_started_again_are_refused_at_once(wicked):
    server = wicked(routes=(route(2),), start_seconds=30.0)
    server._script.write_text("import time\ntime.sleep(600)")
    reply = server.post("/predict", row(102))
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert "version 2 of 'm' could not answer: its process died; try again" in reply.error
    for _ in range(3):
        reply = server.post("/predict", row(1))
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert "its process is being started again" in reply.error
    assert [one.outcome for one in server.records(PredictionRecord)] == ["failed"] * 4


@pytest.mark.real
def test_a_version_that_dies_of_every_request_is_given_growing_pauses(wicked, monkeypatch):
    monkeypatch.setattr(children, "FIRST_PAUSE", 1000.0)
    server = wicked()
    assert server.post("/predict", row(102)).json["version"] == 1
    assert eventually(lambda: server.post("/predict", row(1)).json["version"] == 2), (
        "the first time it is started at once"
    )
    assert server.post("/predict", row(102)).json["version"] == 1
    assert server.post("/predict", row(1)).json["version"] == 1
    assert restarts(server) == 1


# -- the runner alone


async def in_loop(script: str, tmp_path: Path, test, **limits):
    path = tmp_path / "child.py"
    path.write_text(script)
    restarted: list[int] = []
    child = Child(
        SIGNATURE,
        "fake",
        lambda descriptor: (sys.executable, str(path), str(descriptor)),
        limits=Limits(**limits),
        restarted=lambda: restarted.append(1),
    )
    await child.start()
    try:
        await test(child)
    finally:
        await child.close()
    return len(restarted)


def scored(child: Child, x: float, waited: float = 0.0) -> asyncio.Future[Scored]:
    found: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
    batch = Batch({"x": [x], "n": [1]}, 1, 1, 0)
    batch.waited_ns = int(waited * 1e9)
    child.run(batch, found.set_result)
    return found


def test_a_request_that_waited_is_answered_at_its_own_deadline_and_the_process_has_its_full_time(tmp_path):
    """The batch takes 0.6 s of the 30 s it may; its request had waited 29.9 s before."""

    async def test(child: Child) -> None:
        before = child.pid
        late = scored(child, 5, waited=29.9)
        said = await late
        assert (said.outcome, said.error) == ("timed_out", "it gave no answer within 30 s of the request")
        said = await scored(child, 1)
        assert said.outcome == "timed_out"
        assert said.error == "its process is still busy with a batch that is overdue"
        while (said := await scored(child, 1)).values is None:  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.01)
        assert said.values.tolist() == [100]
        assert child.pid == before

    script = WICKED.replace("DEEDS = {", "DEEDS = { 5: lambda x: time.sleep(0.6) or np.array(x),")
    assert uvloop.run(in_loop(script, tmp_path, test, batch_seconds=30.0)) == 0


def test_an_answer_that_came_while_the_server_stood_still_counts_though_its_time_is_over(tmp_path):
    """Timers may run before sockets are read: a process that has answered is not killed for a stall of the server."""

    async def test(child: Child) -> None:
        before, loop = child.pid, asyncio.get_running_loop()
        assert child._life is not None
        assert child._life._transport is not None
        pipe = child._life._transport.get_extra_info("socket").fileno()
        found = scored(child, 5)
        begun = await asyncio.to_thread(gate.open, "w")  # it has the batch
        stood: asyncio.Future[bool] = loop.create_future()

        def stand_still() -> None:  # while what can be read is being read
            loop.remove_reader(theirs)
            begun.close()
            answered = bool(select.select([pipe], [], [], 60)[0])
            assert child._out is not None
            assert child._deadline is not None
            child._out.killed_at = 0.0
            child._deadline.cancel()
            child._deadline = loop.call_later(0, child._due)
            stood.set_result(answered)

        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.send(b"1")
            loop.add_reader(theirs, stand_still)
            assert await stood
            assert (await found).outcome == "answered"
        assert child.pid == before

    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = WICKED.replace("DEEDS = {", f"DEEDS = {{ 5: lambda x: np.array(x) + len(open({str(gate)!r}).read()),")
    assert uvloop.run(in_loop(script, tmp_path, test, batch_seconds=60.0)) == 0


@pytest.mark.parametrize("where", ["started again", "replaced"])
def test_a_version_unloaded_just_as_its_process_is_ready_leaves_none_behind(tmp_path, monkeypatch, where):
    """Unloading comes between the process's last word of getting ready and the first that is done with it."""
    lives: list[Life] = []
    begin = Life.begin

    async def test(child: Child) -> None:
        unloaded = asyncio.Event()

        async def and_close(*given: Any) -> Life:
            life = await begin(*given)
            lives.append(life)
            unloaded.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)  # until it is cancelled, which it is too late for
            return life

        monkeypatch.setattr(Life, "begin", and_close)
        if where == "replaced":
            child._replace("the test says so")
        else:
            child._renew("failed", "the test says so")
        await unloaded.wait()
        await child.close()
        assert [life._process.returncode for life in lives] == [-9]
        assert child.pid is None

    uvloop.run(in_loop(WICKED, tmp_path, test))


def test_rows_travel_as_they_came(tmp_path):
    script = WICKED.replace('signature = "fake", False, None', 'signature = "fake", False, SIGNATURE').replace(
        "pipe = socket",
        f"sys.path.append({str(Path(__file__).parent)!r})\nfrom serving_world import SIGNATURE\npipe = socket",
        1,
    )

    async def test(child: Child) -> None:
        found = asyncio.get_running_loop().create_future()
        child.run(Batch(None, 3, 1, 0, tuples=[(1.0, 1), (2.0, None), (3.0, 3)], names=("x", "n")), found.set_result)
        assert (await found).values.tolist() == [100, 200, 300]

    uvloop.run(in_loop(script, tmp_path, test))


def test_a_version_that_never_says_it_is_ready_cannot_be_loaded(tmp_path):
    with pytest.raises(PackagingFailed, match=r"did not load the model within 0\.1 s"):
        uvloop.run(in_loop("import time\ntime.sleep(600)", tmp_path, None, start_seconds=0.1))


@pytest.mark.parametrize("said", ["LENGTH.pack(9) + bytes(9)", "frame(Values(1, 1, b''))", "b'hello, world'"])
def test_a_version_that_talks_nonsense_before_it_is_ready_cannot_be_loaded(tmp_path, said):
    script = f"""
import socket, sys, time
from trueline.serving.pipe import LENGTH, Values, frame
socket.socket(fileno=int(sys.argv[1])).sendall({said})
time.sleep(600)
"""
    with pytest.raises(PackagingFailed, match="before the model was loaded"):
        uvloop.run(in_loop(script, tmp_path, None))


def test_a_version_unloaded_while_it_is_busy_answers_what_it_owes(tmp_path):
    found: list[asyncio.Future[Scored]] = []

    async def test(child: Child) -> None:
        found.append(scored(child, 101))

    uvloop.run(in_loop(WICKED, tmp_path, test))
    assert found[0].result().error == "the version was unloaded"


def test_an_answer_of_the_wrong_length_is_seen_before_it_is_read():
    inbox = Inbox()
    with pytest.raises(Garbled, match="announced"):
        list(inbox.feed(LENGTH.pack(2**31)))
    assert list(Inbox().feed(frame(Values(1, 2, bytes(16))))) == [Values(1, 2, bytes(16))]


def test_a_process_that_is_gone_has_no_memory():
    assert memory.resident(2**22 + 1) is None
    assert memory.bound(2**22 + 1, 0) is None


# -- a version that hangs inside the serving process: what another process can see of it


def test_a_batch_that_takes_too_long_can_be_seen_from_outside_and_is_told_from_a_crash(tmp_path):
    page = tmp_path / "scoreboard"
    assert scoreboard.overdue(page, 0) is None, "there is no such process yet"
    board = Scoreboard(page)
    assert scoreboard.overdue(page, -10) is None, "it is idle"
    board.begin(3, 4, 1_700_000_000_000_000, rows=50)
    assert scoreboard.overdue(page, 60) is None
    assert board.unfinished() == Unfinished(3, 4, 1_700_000_000_000_000)
    assert scoreboard.overdue(page, -0.01) is None, "each row is granted a millisecond"
    said = scoreboard.overdue(page, -10)
    assert said is not None
    assert said.startswith("version 3 has been scoring 4 requests for 0.")
    board.close()
    found = Scoreboard(page)
    assert found.unfinished() == Unfinished(3, 4, 1_700_000_000_000_000, stuck=True)
    found.clear()
    assert found.unfinished() is None
    assert scoreboard.overdue(page, -10) is None
    found.close()


def test_a_version_that_was_being_loaded_is_named_too(tmp_path):
    board = Scoreboard(tmp_path / "scoreboard")
    board.loading(7)
    found = board.unfinished()
    assert found is not None
    assert (found.version, found.requests, found.loading) == (7, 0, True)
    board.loaded()
    assert board.unfinished() is None
    board.close()


@pytest.mark.parametrize("left", [b"", bytes(24), b"\xff" * 24, b"\xff" * 100])
def test_a_page_of_another_layout_says_nothing(tmp_path, left):
    page = tmp_path / "scoreboard"
    page.write_bytes(left)
    assert scoreboard.overdue(page, -10) is None
    board = Scoreboard(page)
    assert board.unfinished() is None
    board.close()


def test_between_two_batches_nothing_is_ever_overdue(tmp_path):
    """The page is looked at by another thread while batch follows batch: never is one seen as long as all of them."""
    page = tmp_path / "scoreboard"
    board = Scoreboard(page)
    over = threading.Event()

    def score() -> None:
        while not over.is_set():
            board.begin(1, 1, 1, rows=0)
            board.end()

    worker = threading.Thread(target=score)
    board.begin(1, 1, 1, rows=0)
    worker.start()
    try:
        assert [scoreboard.overdue(page, 1.0) for _ in range(300)] == [None] * 300
    finally:
        over.set()
        worker.join()
        board.close()
