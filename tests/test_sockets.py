"""Asking several processes at once: each answer counts when it is there, and who is silent keeps nobody waiting."""

import contextlib
import json
import socket
import threading

import pytest

from trueline.errors import Unavailable
from trueline.sockets import ask_each


class Listener:
    """A process's socket that answers when it may, and what it is told to."""

    def __init__(self, path, answer, *, at_once=True):
        self.path, self.answer, self.may = path, answer, threading.Event()
        self.asked = threading.Event()
        if at_once:
            self.may.set()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            channel, _ = self._socket.accept()
            with channel, channel.makefile("rwb") as stream:
                stream.readline()
                self.asked.set()
                self.may.wait(20)
                stream.write(self.answer)

    def close(self):
        self.may.set()
        self._socket.close()


@pytest.fixture
def listener(tmp_path):
    made = []

    def make(name, answer=b'{"ok":true}\n', **more):
        made.append(Listener(tmp_path / f"{name}.sock", answer, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_each_answer_is_given_when_it_is_there_and_refusals_are_answers_too(listener, tmp_path):
    late = listener("a", json.dumps({"ok": True, "who": "a"}).encode() + b"\n", at_once=False)
    refusing = listener("b", b'{"ok":false,"error":"not now"}\n')
    gone = tmp_path / "c.sock"
    answers = ask_each([late.path, refusing.path, gone], {"op": "route"})
    path, problem = next(answers)
    assert (path, str(problem)) == (gone, "c does not answer on its socket ([Errno 2] No such file or directory)")
    assert isinstance(problem.__cause__, FileNotFoundError)
    path, problem = next(answers)
    assert (path, str(problem)) == (refusing.path, "b refused route: not now")
    assert late.asked.wait(20), "it was asked before anybody's answer was waited for"
    late.may.set()
    assert next(answers) == (late.path, {"ok": True, "who": "a"})
    assert list(answers) == []


def test_who_is_silent_is_given_up_at_the_deadline_and_who_ends_at_once(listener):
    silent, ending = listener("a", at_once=False), listener("b", b'{"ok":tr')
    found = {path: str(problem) for path, problem in ask_each([silent.path, ending.path], {"op": "x"}, timeout=0.3)}
    assert found[silent.path] == "a does not answer on its socket (timed out)"
    assert found[ending.path] in (
        "b ended in the middle of its answer; ask again",
        "b does not answer on its socket (timed out)",
    )
    assert not any(isinstance(one, Unavailable) for _, one in ask_each([], {"op": "x"}))
