"""What the process before this one died of, who is to blame, and that he gets a process of his own."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from serving_world import Fake, Running, route, table

from trueline import catalogue, routefile
from trueline.domain.routes import Arm, Route
from trueline.journal.records import CrashRecord
from trueline.serving import obituary
from trueline.serving import table as tables
from trueline.serving.children import Child
from trueline.serving.contained import Contained
from trueline.serving.limits import Limits
from trueline.serving.loading import Loader
from trueline.serving.metrics import Metrics
from trueline.serving.runners import InProcess
from trueline.serving.scoreboard import Scoreboard, Unfinished
from trueline.serving.server import Config
from trueline.settings import StateFolder

ABORTED = "Fatal Python error: Aborted\n\nCurrent thread 0x0 (most recent call first):\n"


SCORES = ABORTED + '  File "/x/trueline/serving/runners.py", line 90 in run\n'
LOADS = ABORTED + '  File "/x/trueline/packaging/executors.py", line 90 in load\n'
SEGV = "Fatal Python error: Segmentation fault\n"
LOADED = Unfinished(4, 0, 2, loading=True)
BOTH = Unfinished(3, 2, 1, beside=LOADED)
STUCK = Unfinished(3, 2, 1, stuck=True, beside=Unfinished(4, 0, 2, stuck=True, loading=True))
DIED = "the serving process died"
KILLED = "the serving process was killed because it did not come to an end"


@pytest.mark.parametrize(
    ("unfinished", "trace", "sentence", "suspects"),
    [
        (Unfinished(3, 2, 1), "", f"{DIED} while it was scoring version 3", ()),
        (Unfinished(3, 2, 1), ABORTED, f"{DIED} (aborted) while it was scoring version 3", (3,)),
        (Unfinished(3, 2, 1), LOADS, f"{DIED} (aborted) while it was scoring version 3", ()),  # what was given up
        (Unfinished(3, 2, 1, stuck=True), "", f"{KILLED} scoring version 3", (3,)),
        (LOADED, SEGV, f"{DIED} (segmentation fault) while it was loading version 4", (4,)),
        (LOADED, LOADS, f"{DIED} (aborted) while it was loading version 4", (4,)),
        (BOTH, "", f"{DIED} while it was scoring version 3", ()),
        (BOTH, SCORES, f"{DIED} (aborted) while it was scoring version 3", (3,)),
        (BOTH, LOADS, f"{DIED} (aborted) while it was loading version 4", (4,)),
        (
            BOTH,
            ABORTED,
            f"{DIED} (aborted) while it was scoring version 3 and loading version 4: one of the two did it",
            (3, 4),
        ),
        (STUCK, "", f"{KILLED} scoring version 3 and loading version 4: one of the two did it", (3, 4)),
    ],
)
def test_a_death_is_told_in_a_sentence_and_blames_only_who_did_it(tmp_path, unfinished, trace, sentence, suspects):
    (tmp_path / obituary.FILE).write_text(trace)
    found = obituary.of(unfinished, tmp_path)
    assert (found.sentence, found.suspects) == (sentence, suspects)
    assert found.unfinished == (LOADED if "loading version 4" in sentence and len(suspects) == 1 else unfinished)


CRASH = """
import os, sys, threading
from pathlib import Path
from trueline.domain.contracts import Column, Kind
from trueline.packaging import executors
from trueline.packaging.signature import REGRESSION, Signature
from trueline.serving import obituary
from trueline.serving.runners import Batch, InProcess
from trueline.serving.scoreboard import Scoreboard

folder, where, event = Path(sys.argv[1]), sys.argv[2], threading.Event()
kept = obituary.write_into(folder)
board = Scoreboard(folder / "scoreboard")

def here(name):
    if where == name:
        os.abort()
    event.set() if name == "nowhere" else event.wait()

class Executor:
    kind, in_process, signature = "fake", True, Signature((Column("x", Kind.float64),), "y", REGRESSION)
    def predict(self, columns):
        board.loading(4)
        opening = threading.Thread(target=lambda: executors.load(folder, None), daemon=True)
        opening.start()
        here("scoring")

executors.manifests.read = lambda folder: here("loading")
InProcess(3, Executor(), board).run(Batch({"x": [1.0]}, 1, 2, 17), print)
"""


@pytest.mark.parametrize(("where", "who"), [("scoring", 3), ("loading", 4)])
def test_the_trace_of_a_crash_says_which_of_two_threads_it_was(tmp_path, where, who):
    ran = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path), where], capture_output=True, check=False, timeout=60
    )
    assert ran.returncode < 0, ran.stderr
    board = Scoreboard(tmp_path / "scoreboard")
    left = board.unfinished()
    board.close()
    assert (left.version, left.requests, left.beside.version) == (3, 2, 4)
    found = obituary.of(left, tmp_path)
    assert (found.suspects, found.unfinished.version) == ((who,), who)


def test_a_process_that_was_at_rest_has_none(tmp_path):
    assert obituary.of(None, tmp_path) is None


def test_a_crash_of_the_process_leaves_its_trace(tmp_path):
    code = "import os, sys; from pathlib import Path; from trueline.serving import obituary\n"
    code += "kept = obituary.write_into(Path(sys.argv[1])); os.abort()"
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=False)
    assert ran.returncode < 0
    assert obituary.of(Unfinished(1, 1, 1), tmp_path).suspects == (1,)


def test_a_full_disk_is_no_reason_not_to_start(tmp_path):
    assert obituary.write_into(tmp_path / "not there") is None


@pytest.fixture
def again(tmp_path):
    """A server whose predecessor left the scoreboard, and a trace, like this."""
    state = StateFolder(tmp_path / "state").create()
    started = []

    def start(trace, *, leave):
        folder = state.journal("r0")
        folder.mkdir(parents=True)
        page = Scoreboard(folder / "scoreboard")
        leave(page)
        page.close()
        (folder / obituary.FILE).write_text(trace)
        routes = (route(1), route(2, Arm.canary, 0.0, digest="sha256:two"))
        routefile.write(state.routes, replace(table(3), routes=(routes[0], replace(routes[1], arm=Arm.shadow))))
        one = Running(Config(state, port=0, limits=Limits(sweep_seconds=0.02)), {1: Fake(1), 2: Fake(2)})
        started.append(one)
        one.start()
        return one

    yield start
    for one in started:
        one.stop()


def test_the_version_that_crashed_the_server_is_journalled_counted_and_kept_apart(again, caplog):
    server = again(ABORTED, leave=lambda page: page.begin(2, 3, 17))
    (crash,) = server.records(CrashRecord)
    sentence = "the serving process died (aborted) while it was scoring version 2"
    assert (crash.version, crash.event_us, crash.in_flight, crash.error) == (2, 17, 3, sentence)
    assert server.admin("status")["contained"] == [{"version": 2, "digest": "sha256:two", "reason": sentence}]
    assert server.metric('trueline_process_crashes_total{model="m",version="2"}') == 1
    assert sentence in caplog.messages
    assert any(one.startswith("version 2 gets a process of its own from now on; delete ") for one in caplog.messages)


def test_when_it_is_not_known_which_of_two_versions_did_it_both_get_a_process_of_their_own(again, tmp_path):
    catalogue_of_asked(tmp_path, 7)
    again(ABORTED, leave=lambda page: (page.loading(7), page.begin(2, 3, 17)))
    contained = Contained(tmp_path / "state" / "contained")
    assert "sha256:two" in contained
    assert "sha256:7" in contained


def test_a_version_that_was_scored_when_somebody_killed_the_server_is_journalled_and_not_blamed(again):
    server = again("", leave=lambda page: page.begin(2, 3, 17))
    assert [one.version for one in server.records(CrashRecord)] == [2]
    assert server.admin("status")["contained"] == []


def test_a_server_that_was_at_rest_blames_nobody_even_if_it_crashed(again):
    server = again(ABORTED, leave=lambda page: (page.begin(2, 3, 17), page.end()))
    assert server.records(CrashRecord) == []
    assert server.admin("status")["contained"] == []


def test_the_blamed_are_remembered_by_content_and_forgotten_by_deleting_a_file(tmp_path):
    contained = Contained(tmp_path / "contained")
    assert "sha256:a" not in contained
    assert contained.all() == {}
    contained.add("sha256:a", "it crashed")
    assert "sha256:a" in contained
    assert "" not in contained
    assert Contained(tmp_path / "contained").all() == {"sha256:a": "it crashed"}
    contained.path("sha256:a").unlink()
    assert "sha256:a" not in contained


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said_and_no_more(tmp_path, caplog):
    tmp_path.chmod(0o500)
    Contained(tmp_path / "contained").add("sha256:a", "it crashed")
    tmp_path.chmod(0o700)
    assert "cannot be written" in caplog.text


def test_who_is_to_blame_is_loaded_into_a_process_of_its_own_whatever_its_executor(tmp_path, packaged):
    board = Scoreboard(tmp_path / "scoreboard")
    contained = Contained(tmp_path / "contained")
    wanted = Route(1, Arm.champion, 1.0, str(packaged[1].folder), packaged[1].digest)

    async def kinds():
        load = Loader(board, Limits(), Metrics(), contained)
        for _ in range(2):
            runner = await load(wanted)
            scored = await tables._warm_up(runner)
            yield type(runner), runner.kind, float(scored.values[0])
            await runner.close()
            contained.add(wanted.digest, "it crashed")

    async def both():
        return [one async for one in kinds()]

    (inside, kind, value), (apart, same_kind, same_value) = asyncio.run(both())
    assert (inside, apart) == (InProcess, Child)
    assert kind == same_kind == "onnx"
    assert value == same_value
    assert board.unfinished() is None
    board.close()
    assert Path(wanted.path).is_dir()


def catalogue_of_asked(root, version):
    state = StateFolder(root / "state").create()
    state.asked.mkdir(exist_ok=True)
    catalogue.write(state.asked / f"{version}.json", [catalogue.Entry(version, "it", f"sha256:{version}", "asked")])


def test_a_version_that_was_loaded_by_request_is_kept_apart_too(tmp_path, again):
    catalogue_of_asked(tmp_path, 7)
    again(ABORTED, leave=lambda page: page.loading(7))
    assert "sha256:7" in Contained(tmp_path / "state" / "contained")
