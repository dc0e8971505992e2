"""The supervisor with small children of its own: each test drives a real one in a real process."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.cli.supervisor import HEALTHY_SECONDS, LONGEST_PAUSE, Backoff, ending

PATIENCE = 20.0

DRIVER = """
import json, sys
from trueline.cli import supervisor
from trueline.cli.supervisor import ChildSpec, Supervisor
from trueline.errors import TruelineError

class Listener:
    def line(self, child, text): print(json.dumps(["line", child, text]), flush=True)
    def note(self, sentence): print(json.dumps(["note", sentence]), flush=True)
    def ready(self): print(json.dumps(["ready"]), flush=True)

supervisor.GRACE_SECONDS = float(sys.argv[2])
def hangs(started):
    # the sentence in the file, if it was written since the child was started
    try:
        page = open(sys.argv[4])
    except FileNotFoundError:
        return None
    with page:
        since, word = page.read().split(maxsplit=1)
    return word if float(since) >= started else None

answering = {"announces": True, "answers": lambda: True}
traits = {
    "announcing": {"announces": True}, "late": {"late": True}, "checked": {"check": hangs},
    "first": answering, "second": answering, "spare": answering,
}
specs = [
    ChildSpec(name, (sys.executable, "-u", "-c", code), wave, **traits.get(name, {}))
    for name, code, wave in json.loads(sys.argv[1])
]
try:
    spare = next((one for one in specs if one.name == "spare"), None)
    others = [one for one in specs if one is not spare]
    Supervisor(others, Listener(), probe=lambda: sys.argv[3] == "ready", spare=spare).run()
except TruelineError as error:
    print(json.dumps(["error", error.exit_code, str(error)]), flush=True)
print(json.dumps(["end"]), flush=True)
"""

GOOD = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("finishing"), sys.exit(0)))
print("pid", os.getpid())
while True: time.sleep(60)
"""
DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
print("pid", os.getpid())
while True: time.sleep(60)
"""


class Driven:
    """A supervisor under way, and what it has told so far."""

    def __init__(self, *specs, grace=PATIENCE, ready=True, page="/nowhere"):
        children = [(name, textwrap.dedent(code), wave) for name, code, wave in specs]
        command = [
            sys.executable,
            "-c",
            DRIVER,
            json.dumps(children),
            str(grace),
            "ready" if ready else "never",
            str(page),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.told = []

    def until(self, wanted):
        """Read what is told until `wanted` accepts an item; that item."""
        for line in self.process.stdout:
            self.told.append(json.loads(line))
            if wanted(self.told[-1]):
                return self.told[-1]
        raise AssertionError(f"it ended without it; it told {self.told}")

    def pid_of(self, name):
        return int(self.until(lambda item: item[:2] == ["line", name] and item[2].startswith("pid"))[2].split()[1])

    def rest(self):
        self.told += [json.loads(line) for line in self.process.stdout]
        assert self.process.wait(PATIENCE) == 0
        return self.told


@pytest.fixture
def drive():
    started = []

    def start(*specs, **options):
        started.append(Driven(*specs, **options))
        return started[-1]

    yield start
    for driven in started:
        driven.process.kill()
        driven.process.wait()
        driven.process.stdout.close()


def gone(pid):
    """Wait until no such process runs (a zombie does not)."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                time.sleep(0.01)
                continue
        return True
    return False


def test_a_child_that_dies_is_started_again(drive):
    driven = drive(("serve", GOOD, 0))
    first = driven.pid_of("serve")
    os.kill(first, signal.SIGKILL)
    note = driven.until(lambda item: item[0] == "note")[1]
    assert note == "serve was killed by SIGKILL; starting it again in 0.1 s"
    assert driven.pid_of("serve") != first


def test_sigterm_ends_the_children_wave_by_wave_and_then_itself(drive):
    driven = drive(("ship", GOOD, 1), ("control", GOOD, 0), ("serve", GOOD, 0))
    pids = {driven.until(lambda item: item[0] == "line")[1] for _ in range(3)}
    assert pids == {"ship", "control", "serve"}
    driven.process.send_signal(signal.SIGTERM)
    ended = [item[1] for item in driven.rest() if item[0] == "line" and item[2] == "finishing"]
    assert set(ended[:2]) == {"control", "serve"}
    assert ended[2] == "ship"
    assert not [item for item in driven.told if item[0] in {"note", "error"}]


def test_a_child_that_does_not_finish_in_time_is_killed(drive):
    driven = drive(("worker", DEAF, 0), grace=0.2)
    pid = driven.pid_of("worker")
    driven.process.send_signal(signal.SIGINT)
    assert ["note", "worker did not finish in time; killed"] in driven.rest()
    assert gone(pid)


def test_a_second_signal_does_not_wait(drive):
    driven = drive(("worker", DEAF, 0))
    pid = driven.pid_of("worker")
    driven.process.send_signal(signal.SIGTERM)
    driven.until(lambda item: item == ["line", "worker", "heard"])
    driven.process.send_signal(signal.SIGTERM)
    driven.rest()
    assert gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_children_die_with_a_supervisor_that_is_killed(drive):
    driven = drive(("serve", DEAF, 0), ("worker", DEAF, 0))
    pids = [int(driven.until(lambda item: item[0] == "line")[2].split()[1]) for _ in range(2)]
    driven.process.kill()
    assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("code", [2, 6, 7])
def test_a_child_that_cannot_ever_start_ends_the_whole_with_its_words(code, drive):
    complaint = f"import sys, time; sys.stderr.write('trueline: no such column\\n'); sys.exit({code})"
    driven = drive(("control", complaint, 0), ("serve", GOOD, 0), ready=False)
    told = driven.rest()
    assert ["error", code, "control cannot start: no such column"] in told


def test_after_it_was_ready_once_the_same_exit_is_an_accident(drive, tmp_path):
    mark = tmp_path / "mark"
    twice = f"""
    import os, pathlib, sys, time
    mark = pathlib.Path({str(mark)!r})
    if mark.exists():
        mark.unlink()
        sys.exit(6)
    print("pid", os.getpid())
    time.sleep(60)
    """
    driven = drive(("control", twice, 0))
    pid = driven.pid_of("control")
    if ["ready"] not in driven.told:
        driven.until(lambda item: item == ["ready"])
    mark.touch()
    os.kill(pid, signal.SIGKILL)
    assert "killed by SIGKILL" in driven.until(lambda item: item[0] == "note")[1]
    assert "exit code 6; starting it again in 0.2 s" in driven.until(lambda item: item[0] == "note")[1]
    driven.pid_of("control")


def test_the_end_of_a_child_is_told_also_when_its_signal_has_no_name():
    words = ["was killed by SIGKILL", "was killed by signal 40", "ended with exit code 3"]
    assert [ending(code) for code in (-9, -40, 3)] == words


def test_what_children_say_is_passed_on_line_by_line_also_their_last_words(drive):
    chatty = """
    import sys
    print("out"); sys.stderr.write("err\\n\\nhalf a line"); sys.exit(1)
    """
    driven = drive(("worker", chatty, 0))
    driven.until(lambda item: item[0] == "note")
    assert [item[2] for item in driven.told if item[0] == "line"] == ["out", "err", "half a line"]


def test_a_grandchild_that_keeps_the_pipe_does_not_hide_a_death(drive):
    code = """
    import subprocess, sys
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print("orphan", orphan.pid)
    sys.exit(1)
    """
    driven = drive(("worker", code, 0))
    orphans = [int(driven.until(lambda item: item[0] == "line")[2].split()[1])]
    try:
        assert "exit code 1" in driven.until(lambda item: item[0] == "note")[1]
        driven.process.send_signal(signal.SIGTERM)
        orphans += [int(item[2].split()[1]) for item in driven.rest() if item[0] == "line"]
    finally:
        for orphan in set(orphans):
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)


@given(st.lists(st.floats(min_value=0, max_value=HEALTHY_SECONDS, exclude_max=True), min_size=1, max_size=12))
def test_pauses_double_to_a_limit_and_health_forgets_them(lives):
    backoff = Backoff()
    pauses = [backoff.after(lived) for lived in lives]
    assert pauses[0] == 0.1
    assert all(later == min(2 * earlier, LONGEST_PAUSE) for earlier, later in pairwise(pauses))
    assert backoff.after(HEALTHY_SECONDS) == 0.1


def test_a_child_that_fails_for_days_is_still_started_every_five_seconds():
    backoff = Backoff(failures=10**6)
    assert backoff.after(0.1) == LONGEST_PAUSE


def test_a_child_that_hangs_is_killed_and_started_again_and_the_page_of_the_dead_one_is_not_held_against_the_next(
    drive, tmp_path
):
    page = tmp_path / "page"
    up = drive(("checked", GOOD, 0), page=page)
    first = up.until(lambda item: item[0] == "line")
    draft = tmp_path / "draft"
    draft.write_text(f"{time.monotonic()} it has been scoring for 2.0 s")
    draft.rename(page)
    assert up.until(lambda item: item[0] == "note") == ["note", "checked: it has been scoring for 2.0 s; killed"]
    assert up.until(lambda item: item[0] == "note")[1].startswith("checked was killed by SIGKILL; starting it again")
    second = up.until(lambda item: item[0] == "line")
    assert second != first
    up.process.send_signal(signal.SIGTERM)
    told = up.until(lambda item: item == ["end"])
    assert told == ["end"]
    assert sum(item[0] == "note" for item in up.told) == 2


def test_what_announces_itself_is_waited_for_and_what_is_late_comes_after_everything_is_ready(drive):
    announcing = GOOD + "\n"
    slow = announcing.replace('print("pid", os.getpid())', "time.sleep(0.2); print('{\"url\": 1}')")
    up = drive(("announcing", slow, 0), ("late", GOOD, 1))
    up.until(lambda item: item[:2] == ["line", "late"])
    kinds = [item[:2] for item in up.told]
    assert kinds.index(["line", "announcing"]) < kinds.index(["ready"]) < kinds.index(["line", "late"])


ANSWERING = GOOD.replace('print("pid", os.getpid())', "print('{\"url\": ' + str(os.getpid()) + '}')")


def url_of(name):
    return lambda item: item[:2] == ["line", name] and item[2].startswith('{"url"')


def test_children_are_replaced_one_by_one_beside_a_spare_one(drive):
    up = drive(("first", ANSWERING, 0), ("second", ANSWERING, 0), ("other", GOOD, 0), ("spare", ANSWERING, 0))
    up.until(lambda item: item == ["ready"])
    already = len(up.told)
    up.process.send_signal(signal.SIGUSR1)
    up.until(lambda item: item == ["note", "all were replaced, one by one"])
    up.until(lambda item: item == ["line", "spare", "finishing"])
    seen = [tuple(item[1:]) for item in up.told[already:] if item[0] == "line"]
    short = [(name, "up" if text.startswith("{") else "down") for name, text in seen]
    assert [one for one in short if one[0] != "other"] == [
        ("spare", "up"), ("first", "down"), ("first", "up"), ("second", "down"), ("second", "up"), ("spare", "down"),
    ]  # fmt: skip
    assert ("other", "finishing") not in seen
    up.process.send_signal(signal.SIGTERM)
    assert up.rest()[-1] == ["end"]
    assert sum(url_of("spare")(item) for item in up.told) == 1, "it is not started again"


def test_nothing_is_replaced_when_the_spare_one_does_not_come_up(drive):
    up = drive(("first", ANSWERING, 0), ("spare", "print('no model'); raise SystemExit(6)", 0))
    up.until(lambda item: item == ["ready"])
    up.process.send_signal(signal.SIGUSR1)
    (_, said) = up.until(lambda item: item[0] == "note")
    assert said == "nothing is replaced: spare was started beside and does not answer (no model)"
    up.process.send_signal(signal.SIGTERM)
    assert sum(url_of("first")(item) for item in up.rest()) == 1


def test_where_there_is_nothing_to_put_beside_it_is_said(drive):
    up = drive(("serve", GOOD, 0))
    up.until(lambda item: item == ["ready"])
    up.process.send_signal(signal.SIGUSR1)
    assert up.until(lambda item: item[0] == "note") == ["note", "nothing can be replaced here"]
    up.process.send_signal(signal.SIGTERM)
    up.rest()
