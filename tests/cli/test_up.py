"""`up` from the outside, with small children in place of the real ones."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from trueline.cli.model_server import ModelServer, ServingLock, Wanted, cores, count, grpc_port, overridden
from trueline.cli.up import children, choose
from trueline.client import Client, servers
from trueline.domain.project import Serve
from trueline.errors import Conflict, Unavailable
from trueline.settings import StateFolder

CONTROL = """
import signal, sys, threading
from pathlib import Path
from trueline.security import tokens
from trueline.settings import StateFolder
from trueline.web.api.in_memory import InMemoryServices
from trueline.web.server import serve_api
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
token = tokens.read(StateFolder(Path(given["--state"])).token)
serve_api(InMemoryServices(), given["--host"], int(given["--port"]), token, stop=stop)
"""
SERVE = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Alive(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/livez" else 404)
        self.end_headers()
    def log_message(self, *_): pass
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
server = http.server.ThreadingHTTPServer((given["--host"], int(given["--port"])), Alive)
print('{"url": "http://%s:%s"}' % (given["--host"], given["--port"]), flush=True)
server.serve_forever()
"""
IDLE = "import time; time.sleep(600)"
BROKEN = "import sys; sys.stderr.write('trueline.yaml, line 3: expected file.py:function\\n'); sys.exit(2)"

DRIVER = """
import sys
from dataclasses import replace
from trueline.cli import main, up
real, code = up.children, {code!r}
def small(*given, **options):
    for spec in real(*given, **options):
        yield replace(spec, command=(sys.executable, "-c", code.get(spec.name, code["idle"]), *spec.command[3:]))
up.children = lambda *given, **options: list(small(*given, **options))
sys.exit(main.main(sys.argv[1:]))
"""


class Up:
    def __init__(self, project, *options, code):
        driver = DRIVER.format(code=code)
        command = [sys.executable, "-c", driver, "up", "--project", str(project), "--json", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self):
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def start(project):
    started = []

    def begin(*options, control=CONTROL):
        free = ("--control-port", "0", "--serve-port", "0")
        code = {"control": control, "serve": SERVE, "idle": IDLE}
        started.append(Up(project, *free, *options, code=code))
        return started[-1]

    yield begin
    for up in started:
        up.process.kill()
        up.process.communicate()


def test_it_tells_its_addresses_serves_and_ends_clean(start, state):
    up = start()
    told = json.loads(up.process.stdout.readline())
    assert told["pid"] == up.process.pid
    assert servers.read(state) == servers.Servers(**told)
    assert state.servers.stat().st_mode & 0o777 == state.token.stat().st_mode & 0o777 == 0o600
    with Client.connect(state) as client:
        assert client.status().project == "example"
    up.process.send_signal(signal.SIGTERM)
    code, out, err = up.end()
    assert (code, out) == (0, "")
    assert err.endswith("stopped\n")
    assert "Traceback" not in err
    assert servers.read(state) is None
    assert not servers.running(state)


def test_a_second_up_on_the_same_state_folder_is_refused(start, state, trueline, project):
    up = start()
    told = json.loads(up.process.stdout.readline())
    said = trueline("up", "--project", project, "--control-port", "0", "--serve-port", "0")
    assert said.code == 1
    assert (
        said.err
        == f"trueline: trueline is already up at {told['control']} on {state.root}; stop it, or choose another --state\n"
    )
    assert servers.read(state) is not None


def test_a_killed_up_leaves_nothing_in_the_way(start, state):
    first = start()
    json.loads(first.process.stdout.readline())
    first.process.kill()
    first.process.wait()
    assert servers.read(state) is not None
    assert not Client.reachable(state)
    second = start()
    assert json.loads(second.process.stdout.readline())["pid"] == second.process.pid


def test_a_port_in_use_is_one_sentence_before_anything_starts(trueline, project, state):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = trueline("up", "--project", project, "--control-port", port)
    assert said.code == 6
    assert said.err.startswith(f"trueline: port {port} on 127.0.0.1 cannot be used")
    assert not servers.running(state)


def test_a_project_that_control_refuses_ends_with_its_words(start, state):
    code, out, err = start(control=BROKEN).end()
    assert (code, out) == (2, "")
    assert err.endswith("trueline: control cannot start: trueline.yaml, line 3: expected file.py:function\n")
    assert not servers.running(state)


def test_without_a_project_file_nothing_is_made(trueline, tmp_path):
    assert trueline("up").code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_state_folder_is_one_sentence(trueline, project, state):
    state.root.chmod(0o500)
    said = trueline("up", "--project", project)
    state.root.chmod(0o700)
    assert said.code == 6
    assert "make it writable" in said.err


def test_a_state_folder_that_is_a_file_is_one_sentence(trueline, project, tmp_path):
    (tmp_path / "file").touch()
    said = trueline("up", "--project", project, "--state", tmp_path / "file" / "below")
    assert said.code == 6
    assert "cannot be written" in said.err


def model_server(tmp_path, *replicas, **given):
    return ModelServer(StateFolder(tmp_path), Serve(), 2, replicas or ("r0",), group="g", **given)


def test_the_children_are_told_where_and_when(tmp_path):
    found = children(model_server(tmp_path, replay=True), "/p.yaml", ("127.0.0.1", 1))
    specs = {spec.name: spec for spec in found}
    assert set(specs) == {"ship", "control", "serve", "worker"}
    assert all(spec.command[0] == sys.executable for spec in specs.values())
    assert specs["serve"].command[-7:] == ("--host", "127.0.0.1", "--port", "2", "--group", "g", "--replay")
    assert specs["control"].command[-5:] == ("--host", "127.0.0.1", "--port", "1", "--replay")
    assert "--replay" in specs["worker"].command
    assert specs["ship"].wave > max(spec.wave for name, spec in specs.items() if name != "ship")


def test_the_shipper_is_told_where_the_tables_are(tmp_path):
    found = children(model_server(tmp_path, storage="s3://bucket/p"), "/p.yaml", ("127.0.0.1", 1))
    (ship, *others) = found
    assert ship.command[-2:] == ("--storage", "s3://bucket/p")
    assert not any("--storage" in other.command for other in others)


def test_each_process_has_a_journal_of_its_own_and_all_are_shipped_also_of_those_that_are_no_more(tmp_path):
    (tmp_path / "journal" / "r7").mkdir(parents=True)
    server = model_server(tmp_path, "r0", "r1")
    first, second = server.processes()
    assert (first.name, second.name) == ("serve/r0", "serve/r1")
    assert first.command[first.command.index("--group") + 1] == "g" == second.command[-1]
    assert [one for one in server.shipper().command if one.startswith("r")] == ["r0", "r1", "r7"]


def test_what_the_project_file_says_of_serving_reaches_the_processes(tmp_path):
    serve = Serve(host="::1", sync=True, require_signature=True)
    (only,) = ModelServer(StateFolder(tmp_path), serve, 2, ("r0",)).processes()
    assert {"--sync", "--require-signature", "::1"} <= set(only.command)


def test_grpc_has_a_port_of_its_own_that_is_kept_for_the_processes(tmp_path):
    with grpc_port(Serve()) as none:
        assert none is None
    with grpc_port(Serve(grpc_port=0)) as taken:
        server = ModelServer(StateFolder(tmp_path), Serve(), 2, ("r0",), grpc_port=taken)
        (only,) = server.processes()
        assert only.command[only.command.index("--grpc-port") + 1] == str(taken)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} on 127.0.0.1 is in use"), grpc_port(Serve(grpc_port=port)):
            pass


def test_the_command_line_wins_over_the_project_file():
    serve = Serve(host="::1", port=1, processes=4)
    assert overridden(serve, None, None, None) == serve
    assert overridden(serve, "127.0.0.1", 0, Wanted(None)) == Serve("127.0.0.1", 0, None)
    assert overridden(serve, None, None, None, 0).grpc_port == 0
    assert overridden(Serve(grpc_port=7), None, None, None).grpc_port == 7


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "257", "1.5"])
def test_a_number_of_processes_that_is_none_is_one_sentence(trueline, project, wrong):
    said = trueline("up", "--project", project, "--serve-processes", wrong)
    assert said.code == 2
    assert f"{wrong!r} is neither auto nor a number from 1 to 256" in said.err


@pytest.mark.parametrize(("quota", "cores_of_four"), [("max 100000", 4), ("150000 100000", 2), ("10000 100000", 1)])
def test_one_process_per_core_is_no_more_than_the_container_is_granted(tmp_path, monkeypatch, quota, cores_of_four):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    (tmp_path / "cpu.max").write_text(quota)
    assert cores(tmp_path / "cpu.max") == cores_of_four
    assert cores(tmp_path / "nothing") == 4
    assert (count(None), count(3)) == (cores(), 3)


def test_one_model_server_at_a_time_writes_the_journals_of_a_state_folder(tmp_path):
    state = StateFolder(tmp_path / "state").create()
    first = ServingLock(state)
    with pytest.raises(Conflict, match=r"a model server runs on .* already"):
        ServingLock(state)
    first.release()
    ServingLock(state).release()


def test_a_foreign_address_is_one_sentence():
    with pytest.raises(Unavailable, match=r"port 0 on 192\.0\.2\.1"):
        choose("192.0.2.1", 0)
    with pytest.raises(Unavailable, match="not an address of this machine"):
        choose("no.such.host.invalid", 0)


def test_machines_that_share_rows_or_tables_name_their_servers_apart(tmp_path):
    one, other, grown = (StateFolder(tmp_path / name).create() for name in ("one", "other", "grown"))
    grown.journal("r0").mkdir()
    assert [state.replica(shared=False) for state in (one, other, grown)] == ["r0"] * 3
    assert one.replica(shared=True) == one.replica(shared=True) != other.replica(shared=True) != "r0"
    assert grown.replica(shared=True) == "r0"  # its journal goes by that name
    assert one.replicas(3, shared=False) == ("r0", "r1", "r2")
    name = other.replica(shared=True)
    assert other.replicas(3, shared=True) == (name, f"{name}-1", f"{name}-2")
