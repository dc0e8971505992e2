"""`doctor` looks at everything, changes nothing, and says what to do about what is wrong."""

import http.server
import os
import resource
import socket
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from trueline import projectfile
from trueline.cli import doctor
from trueline.cli.checks import engines, finding, machine, work
from trueline.cli.checks.finding import BAD, DOUBTFUL, GOOD, Patient
from trueline.client import servers
from trueline.clock import SystemClock
from trueline.settings import StateFolder
from trueline.store.engine import open_store

FILE = """\
version: 1
project: homes
data: {source: homes.csv, target: price}
train: model.py:fit
"""


@pytest.fixture
def homes(tmp_path):
    (tmp_path / "trueline.yaml").write_text(FILE)
    (tmp_path / "homes.csv").write_text("area,price\n1,2\n2,4\n3,9\n")
    (tmp_path / "model.py").write_text("def fit(frame):\n    return frame\n")
    return tmp_path


@pytest.fixture
def patient(homes):
    def made(extra=""):
        file = homes / "trueline.yaml"
        file.write_text(FILE + extra)
        return Patient(file, StateFolder(homes / ".trueline"), None, projectfile.load(file))

    return made


def test_a_healthy_project_is_found_so_and_nothing_is_made(trueline, homes, monkeypatch):
    monkeypatch.setattr(machine, "PORTS", ())
    before = sorted(homes.iterdir())
    said = trueline("doctor", "--json")
    assert (said.code, said.json["healthy"]) == (0, True)
    assert [one["check"] for one in said.json["checks"]] == list(doctor.CHECKS)
    assert {one["state"] for one in said.json["checks"]} == {"good"}
    assert sorted(homes.iterdir()) == before


def test_what_does_not_work_is_marked_with_what_to_do_and_ends_with_one(trueline, homes):
    (homes / "homes.csv").unlink()
    (homes / "model.py").write_text("import nowhere\n")
    said = trueline("doctor", "--no-color")
    assert said.code == 1
    assert "✗ source        the source homes.csv does not exist" in said.out
    assert (
        "✗ train         model.py:1: importing model.py raised ModuleNotFoundError: No module named 'nowhere'"
        in said.out
    )
    assert "✓ python" in said.out


def test_without_a_project_file_the_rest_is_looked_at_all_the_same(trueline):
    said = trueline("doctor", "--json")
    states = {one["check"]: one["state"] for one in said.json["checks"]}
    assert said.code == 1
    assert (states["project file"], states["source"], states["python"]) == (BAD, DOUBTFUL, GOOD)


def test_a_check_that_hangs_or_breaks_is_a_finding_and_the_others_go_on(patient, monkeypatch):
    monkeypatch.setattr(doctor, "DEADLINE_SECONDS", 0.05)
    forever = threading.Event()
    checks = {
        "hangs": lambda _: forever.wait(30),
        "breaks": lambda _: 1 / 0,
        "works": lambda _: finding.good("yes"),
    }
    found = doctor.examine(patient(), checks)
    forever.set()
    assert [one.state for one in found.values()] == [BAD, BAD, GOOD]
    assert "no answer in 0 s" in found["hangs"].seen
    assert "the check itself failed: ZeroDivisionError" in found["breaks"].seen


@pytest.mark.parametrize(("free", "state"), [(10**8, BAD), (10**9, DOUBTFUL), (10**10, GOOD)])
def test_room_on_the_disk(free, state, patient, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: type("U", (), {"free": free})())
    assert machine.state_folder(patient()).state == state


def test_a_state_folder_that_cannot_be_written(patient, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = machine.state_folder(patient())
    assert (found.state, found.remedy) == (BAD, "make it writable, or choose another with --state")


def test_few_descriptors(patient, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    assert machine.descriptors(patient()).state == DOUBTFUL


def test_packages_of_other_versions(patient, monkeypatch):
    monkeypatch.setattr(machine.metadata, "requires", lambda _: ["click>=99", "nosuchthing", "x; extra == 'dev'"])
    found = machine.packages(patient())
    assert found.state == BAD
    assert "is not >=99; nosuchthing is missing" in found.seen


def test_a_clock_that_went_back(patient):
    state = patient().folder
    state.root.mkdir()
    written = state.root / "control.db"
    written.touch()
    assert machine.clock(patient()).state == GOOD
    later = written.stat().st_mtime + 7200
    os.utime(written, (later, later))
    found = machine.clock(patient())
    assert found.state == BAD
    assert "state was written 120 minutes later" in found.seen


def test_a_port_in_use_names_who_uses_it(patient, monkeypatch):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(machine, "PORTS", (port,))
        found = machine.ports(patient())
        assert found.state == DOUBTFUL
        assert f"{port} is used by process {os.getpid()} (" in found.seen


def test_ports_of_ones_own_servers_are_good(patient):
    state = patient().folder
    state.root.mkdir()
    lock = servers.FolderLock(state)
    servers.publish(state, servers.Servers("http://127.0.0.1:1", "http://127.0.0.1:2", 1))
    assert machine.ports(patient()).seen == "trueline is up at http://127.0.0.1:1 and http://127.0.0.1:2"
    assert machine.leftovers(patient()).state == GOOD
    lock.release()


def test_a_long_path_has_its_sockets_elsewhere_and_a_long_tmpdir_is_told(patient, monkeypatch):
    one = patient()
    far = Patient(one.file, StateFolder(one.root / ("x" * 90)), None, one.project)
    assert "because the state folder's path is long" in machine.socket_paths(far).seen
    monkeypatch.setattr(machine, "SOCKET_BYTES", 20)
    assert machine.socket_paths(far).remedy == "set TMPDIR to a folder with a short path"


def test_a_process_left_behind_is_named(patient):
    state = patient().folder.root
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", "-m trueline.serving", "--state", str(state), "x"]
    with subprocess.Popen([*command[:3], "-m", "trueline.serving", *command[4:]], stdin=subprocess.PIPE) as left:
        found = machine.leftovers(patient())
        left.stdin.close()
    assert found.state == DOUBTFUL
    assert f"kill {left.pid}" in found.remedy


def test_the_sources_columns_are_those_of_the_project(patient):
    assert work.source(patient()).seen == "homes.csv: 3 rows, 2 columns"
    one = patient()
    (one.root / "homes.csv").write_text("area,prize\n1,2\n")
    assert work.source(one) == finding.bad("homes.csv has no column price", "it has area, prize")


def test_a_time_column_without_dates_and_a_target_of_many_words_are_named(patient):
    one = patient()
    one = replace(one, project=replace(one.project, data=replace(one.project.data, time="month")))
    (one.root / "homes.csv").write_text("month,price\nJan,1\nFeb,2\n")
    assert work.source(one).seen == "the time column month holds no dates, but 'Jan'"
    (one.root / "homes.csv").write_text("month,price\n2026-01-01,low\n2026-02-01,high\n2026-03-01,fair\n")
    assert work.source(one).seen == "the target price is String with 3 different values"


def test_journal_segments_that_wait_are_counted(patient):
    folder = patient().folder.journal("r0")
    folder.mkdir(parents=True)
    assert work.backlog(patient()).state == GOOD
    for number in range(1, 4):
        (folder / f"{number:012d}.seg").write_bytes(b"x" * 10)
    found = work.backlog(patient())
    assert (found.state, found.seen) == (DOUBTFUL, "2 journal segments wait, 0 MiB")


def test_each_kind_of_database_is_asked_and_left_as_it_was(patient, empty_database):
    url = str(empty_database)
    one = patient(f"database: {url}\n") if "://" in url else patient()
    said = engines.database(one)
    assert said.state == GOOD
    assert "made at the first run" in said.seen
    one.folder.create()
    open_store(url if "://" in url else one.folder.database, SystemClock()).close()
    assert engines.database(one).seen.endswith("answers, schema 0001")


def test_a_database_that_is_away_or_not_named_is_one_sentence(trueline, homes):
    (homes / "trueline.yaml").write_text(FILE + "database: postgresql://ann:s3cret@127.0.0.1:9/none\n")
    said = trueline("doctor", "--json")
    (one,) = [one for one in said.json["checks"] if one["check"] == "database"]
    assert one["state"] == BAD
    assert "s3cret" not in said.out
    (homes / "trueline.yaml").write_text(FILE + "database: env:NOT_SET_ANYWHERE\n")
    said = trueline("doctor", "--json")
    (one,) = [one for one in said.json["checks"] if one["check"] == "database"]
    assert "the environment variable NOT_SET_ANYWHERE is not set" in one["seen"]


class MLflow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/version" else 404)
        self.end_headers()
        self.wfile.write(b"3.17.2")

    def log_message(self, *_): ...


def test_tracking_is_asked_for_its_version(patient):
    with http.server.HTTPServer(("127.0.0.1", 0), MLflow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert engines.tracking(patient(f"tracking: {url}\n")).seen == f"{url} answers, MLflow 3.17.2"
        assert engines.tracking(patient(f"tracking: {url}/other\n")).seen.startswith(f"{url}/other answers 404")
        server.shutdown()
    gone = engines.tracking(patient(f"tracking: {url}\n"))
    assert gone.state == BAD
    assert "does not answer" in gone.seen
    assert engines.tracking(patient("tracking: sqlite:///x.db\n")).state == DOUBTFUL
    assert engines.tracking(patient("tracking: http://host:nan\n")).state == BAD


def test_storage_in_a_folder_is_there(patient):
    one = patient("storage: shared\n")
    assert engines.storage(one) == finding.good(f"{one.root}/shared can be written")
    assert not (one.root / "shared").exists()


def test_only_what_a_bucket_gives_back_is_kept(tmp_path):
    from trueline.storage.objects import Folder

    class Forgetful(Folder):
        def read(self, key):
            yield from (part[1:] for part in super().read(key))

    assert engines._kept(Folder(tmp_path)).state == GOOD
    assert engines._kept(Forgetful(tmp_path)).state == BAD
