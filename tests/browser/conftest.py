"""A real browser in front of a real control process, whose project has a past."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "web")]  # tests are not a package

from past import Past

from trueline.cli.open import entrance
from trueline.security import tokens

PATIENCE = 30.0


class Control:
    """`python -m trueline.processes.control` on a project, on the same port again after a restart."""

    def __init__(self, past: Past) -> None:
        self.past = past
        self.token = tokens.ensure(past.state / "token")
        self.url = ""
        self._log = past.file.parent / "control.log"
        self.start()

    def start(self) -> None:
        port = self.url.rsplit(":", 1)[1] if self.url else "0"
        command = [sys.executable, "-m", "trueline.processes.control", "--replay", "--port", port]
        command += ["--state", str(self.past.state), "--project", str(self.past.file)]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(r"listens on (\S+)", self._log.read_text())) is None:
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "control did not start in time"
            time.sleep(0.02)
        self.url = found.group(1)

    def stop(self) -> float:
        """End it by SIGTERM; the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self._log.read_text()
        return time.monotonic() - began

    @property
    def entrance(self) -> str:
        return entrance(self.url, self.token)


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    lived = Past(tmp_path_factory.mktemp("browser") / "houses")
    lived.champion()
    lived.promise(5.0)
    lived.days(30)
    lived.champion("a better one")
    lived.days(30)
    lived.events(60)
    return lived


@pytest.fixture(scope="module")
def control(past):
    running = Control(past)
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture
def visit(chromium, control):
    """Open a page as somebody who came in by the link; what goes wrong in it fails the test."""
    contexts, wrong = [], []

    def open_page(path="/", **options):
        context = chromium.new_context(**options)
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        page = context.new_page()
        page.wrong, page.asked = wrong, []
        page.on("console", lambda message: message.type in {"error", "warning"} and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(control.entrance)
        if path != "/":
            page.goto(control.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
