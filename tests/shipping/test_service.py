"""The shipper as its neighbours meet it: on its socket, in its process, and killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from shipping_world import expected, mixed, shipped

from trueline.errors import Conflict, Unavailable
from trueline.journal import segments
from trueline.journal.segments import Writer
from trueline.settings import StateFolder
from trueline.shipping import service
from trueline.shipping.service import Service
from trueline.sockets import ask

PATIENCE = 20.0


def write(state: StateFolder, numbers: range, *, seal: bool = False) -> None:
    with Writer(state.journal("r0"), wait=PATIENCE) as writer:
        for number in numbers:
            writer.append(mixed(number))
            if seal:
                writer.seal()


def told(state: StateFolder, *lines: str) -> list[dict[str, Any]]:
    """The answers of a service in this process."""

    async def talk() -> list[dict[str, Any]]:
        one = Service(state, "r0")
        return [await one.answer(line.encode()) for line in lines]

    return asyncio.run(talk())


@contextmanager
def server(state: StateFolder, writer: Writer) -> Iterator[None]:
    """What is left of a serving process when all it does is seal."""

    class Seal(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            assert json.loads(self.rfile.readline()) == {"op": "seal"}
            self.wfile.write(json.dumps({"ok": True, "segment": writer.seal()}).encode() + b"\n")

    path = state.socket("serve-r0")
    with socketserver.ThreadingUnixStreamServer(str(path), Seal) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield
        listening.shutdown()
        thread.join()
    path.unlink()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def test_everything_accepted_before_the_question_is_in_the_tables_with_the_answer(state) -> None:
    with Writer(state.journal("r0")) as writer, server(state, writer):
        writer.append(mixed(1))
        assert told(state, '{"op":"ship"}') == [{"ok": True, "through": 1}]
        assert shipped(state) == expected(range(1, 2))
        writer.append(mixed(2))
        assert told(state, '{"op":"ship"}', '{"op":"ship"}') == [{"ok": True, "through": 2}] * 2
    assert shipped(state) == expected(range(1, 3))


def test_with_the_server_down_the_journal_is_sealed_under_its_lock(state) -> None:
    write(state, range(1, 3))
    assert told(state, '{"op":"ship"}') == [{"ok": True, "through": 1}]
    assert shipped(state) == expected(range(1, 3))


def test_a_journal_in_hand_of_a_silent_server_is_a_refusal_and_loses_nothing(state, monkeypatch) -> None:
    monkeypatch.setattr(service.seal, "__kwdefaults__", {"seconds": 0.05})
    with Writer(state.journal("r0")) as writer:
        writer.append(mixed(1))
        (answer,) = told(state, '{"op":"ship"}')
    assert not answer["ok"]
    assert "could not be sealed" in answer["error"]
    assert told(state, '{"op":"ship"}') == [{"ok": True, "through": 1}]


def test_a_server_that_lets_go_of_its_journal_late_is_waited_for(state) -> None:
    writer = Writer(state.journal("r0"))
    writer.append(mixed(1))
    leaving = threading.Timer(0.15, writer.close)
    leaving.start()
    assert service.seal(state.journal("r0"), state.socket("serve-r0"), seconds=PATIENCE) == 1
    leaving.join()
    with Writer(state.journal("r0")), pytest.raises(Conflict):
        service.seal(state.journal("r0"), state.socket("serve-r0"), seconds=0)


def test_segments_that_were_read_are_deleted_once_shipped(state) -> None:
    write(state, range(1, 4), seal=True)
    assert told(state, '{"op":"ship","read_through":2}', '{"op":"ping"}') == [{"ok": True, "through": 3}] * 2
    assert segments.numbers(state.journal("r0")) == [3, 4]


@pytest.mark.parametrize("line", ["", "[]", "{", '{"op":"shop"}', '{"op":"ship","read_through":"all"}', "\x00"])
def test_what_is_not_understood_is_refused_in_a_sentence(state, line) -> None:
    (answer,) = told(state, line)
    assert (answer["ok"], answer["status"]) == (False, 400)
    assert answer["error"]


def test_a_look_ships_only_when_something_waits_and_survives_trouble(state, caplog) -> None:
    one = Service(state, "r0")
    asyncio.run(one.look())
    assert not state.table("predictions").exists()
    write(state, range(1, 2))
    state.table("labels").write_text("in the way")
    asyncio.run(one.look())
    assert "labels" in caplog.text
    state.table("labels").unlink()
    asyncio.run(one.look())
    assert shipped(state) == expected(range(1, 2))
    asyncio.run(one.look())
    assert segments.numbers(state.journal("r0")) == [1, 2]


# ---- the real process ----------------------------------------------------------------------------------------------


@contextmanager
def process(state: StateFolder) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "trueline.shipping", "--state", str(state.root), "--replica", "r0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


def alive(state: StateFolder) -> bool:
    try:
        return bool(ask(state.socket("shipper-r0"), {"op": "ping"})["ok"])
    except Unavailable:
        return False


def test_the_process_answers_ships_by_itself_and_once_more_when_it_is_stopped(state) -> None:
    write(state, range(1, 2))
    with process(state) as child:
        eventually(lambda: alive(state))
        eventually(lambda: shipped(state) == expected(range(1, 2)))
        write(state, range(2, 3))
        assert ask(state.socket("shipper-r0"), {"op": "ship"})["through"] == 2
        assert shipped(state) == expected(range(1, 3))
        write(state, range(3, 4))
        with socket.socket(socket.AF_UNIX) as idle:  # a client that stays must not keep it from ending
            idle.connect(str(state.socket("shipper-r0")))
            child.terminate()
            assert child.wait(PATIENCE) == 0
        assert child.stderr is not None
        assert child.stderr.read() == b""
    assert shipped(state) == expected(range(1, 4))
    assert not state.socket("shipper-r0").exists()


@pytest.mark.slow
def test_the_process_ends_with_its_parent(state) -> None:
    program = f"{sys.executable} -m trueline.shipping --state {state.root} & echo $!; read forever"
    with subprocess.Popen(["/bin/sh", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            eventually(lambda: alive(state))
            parent.kill()
            eventually(lambda: not state.socket("shipper-r0").exists())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


ONE_BY_ONE = """
import sys
from trueline.shipping import __main__, ship
ship.BATCH_BYTES = 1
sys.exit(__main__.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_in_the_middle_it_goes_on_where_each_table_stands(state, seed) -> None:
    chance = random.Random(seed)
    write(state, range(1, 61), seal=True)
    command = [sys.executable, "-c", ONE_BY_ONE, "--state", str(state.root)]
    labels, stood = state.table("labels") / "_delta_log", 0
    for _ in range(4):
        stood += chance.randrange(2, 12)
        with subprocess.Popen(command) as child:
            eventually(lambda at=labels / f"{stood:020}.json": at.exists())
            threading.Event().wait(chance.uniform(0, 0.01))  # anywhere in what follows a commit
            child.kill()
    assert shipped(state) != expected(range(1, 61))
    with process(state):
        eventually(lambda: alive(state))
        assert ask(state.socket("shipper-r0"), {"op": "ship"})["through"] == 60
    assert shipped(state) == expected(range(1, 61))
