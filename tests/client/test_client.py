"""The client says the same over HTTP and in-process: one suite for both transports."""

import http.server
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trueline.client import Client, servers
from trueline.client.client import ADDRESS
from trueline.client.transports import HttpTransport, InProcessTransport
from trueline.errors import Conflict, InvalidInput, NotAuthenticated, NotFound, Unavailable
from trueline.security import tokens
from trueline.settings import StateFolder
from trueline.web.api.in_memory import InMemoryServices
from trueline.web.server import ApiServer

TOKEN = "a-token-of-enough-characters"


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch):
    monkeypatch.delenv(ADDRESS, raising=False)
    monkeypatch.delenv(tokens.VARIABLE, raising=False)


@pytest.fixture
def services():
    return InMemoryServices(replaying=True)


@pytest.fixture(params=["http", "in process"])
def client(request, services):
    if request.param == "in process":
        with Client(InProcessTransport(services)) as inside:
            yield inside
        assert services.closed
        return
    with ApiServer(services, "127.0.0.1", 0, TOKEN) as server, Client(HttpTransport(server.url, TOKEN)) as outside:
        yield outside


def test_a_loop_is_driven_by_its_methods(client, services):
    run = client.start_run(fit="m.py:fit", params={"depth": 2}, reason="try")
    assert (run.id, run.params, run.created_at) == ("run-1", {"depth": 2}, datetime(2026, 1, 1, tzinfo=UTC))
    services.work_until_idle()
    assert client.run("run-1").version == 1
    assert [found.id for found in client.runs().items] == ["run-1"]
    assert client.version(1).executor == "onnx"
    assert client.versions().items[0].number == 1
    assert client.gate("gate-1").verdict == "pass"
    assert client.gates(version=1).items[0].id == "gate-1"
    assert client.release("release-1").state == "promoted"
    assert client.releases(version=2).items == []
    assert client.status().champion == 1
    assert client.why("run-1").links[0].ref == "run-1"
    assert client.staleness().ages[0].ratio == 1.04
    assert client.datasets().items[0].rows == 100
    assert client.incidents().items == []
    assert client.events(kind="gate").items[0].reason == "by the test's wish: pass"


def test_what_changes_the_world_says_so(client, services):
    for _ in range(2):
        client.start_run()
        services.work_until_idle()
    assert client.roll_back("oops").version == 1
    services.verdict = "fail"
    client.trigger("rehearsal", "see")
    services.work_until_idle()
    assert client.waive(3, "known").state == "approved"
    assert client.start_release(3, "now").id == "release-3"
    assert client.promote("release-3", "enough").version == 3


def test_replayed_time_is_posted(client):
    moment = datetime(2026, 2, 1, tzinfo=UTC)
    assert client.replay(moment).now == moment
    assert client.clock().replaying


def test_errors_are_those_the_server_met(client):
    with pytest.raises(NotFound, match="there is no run run-9"):
        client.run("run-9")
    with pytest.raises(Conflict, match="nothing to roll back"):
        client.roll_back("oops")
    with pytest.raises(InvalidInput, match="a reason is needed"):
        client.start_release(1, " ")


@pytest.mark.parametrize("strange", ["a b", "ü", "x?y=1", "100%", "#"])
def test_strange_ids_arrive_as_they_are(strange, client):
    with pytest.raises(NotFound, match="there is no run"):
        client.run(strange)


def test_a_wrong_token_is_refused(services):
    with (
        ApiServer(services, "127.0.0.1", 0, TOKEN) as server,
        Client(HttpTransport(server.url, "wrong")) as client,
        pytest.raises(NotAuthenticated),
    ):
        client.status()


def test_a_server_that_is_away_is_one_sentence():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, not listening: refused
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(Unavailable, match="cannot be reached") as away:
            Client(HttpTransport(url, TOKEN)).status()
    assert away.value.exit_code == 6


def test_a_server_that_does_not_answer_is_not_waited_for_forever():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(HttpTransport(f"http://127.0.0.1:{silent.getsockname()[1]}", TOKEN), timeout=0.1)
        with pytest.raises(Unavailable, match="did not answer in time"):
            client.status()


class Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_):
        pass


def test_a_stranger_on_the_port_is_recognised():
    with http.server.HTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        thread = threading.Thread(target=stranger.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{stranger.server_port}"
        with Client(HttpTransport(url, TOKEN)) as client, pytest.raises(Unavailable, match="not trueline's"):
            client.status()
        thread.join()


def test_a_restarted_server_is_found_again_by_reads(services):
    first = ApiServer(services, "127.0.0.1", 0, TOKEN).start()
    client = Client(HttpTransport(first.url, TOKEN))
    client.status()
    first.stop()
    with ApiServer(services, "127.0.0.1", first.port, TOKEN):
        assert client.status().project == "example"
        client.close()


def test_one_client_serves_many_threads(services):
    with ApiServer(services, "127.0.0.1", 0, TOKEN) as server:
        client = Client(HttpTransport(server.url, TOKEN))
        failures = []

        def work():
            try:
                for _ in range(20):
                    client.status()
            except Exception as error:  # noqa: BLE001 whatever it is, the test tells
                failures.append(error)
            finally:
                client.close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


@pytest.mark.parametrize("address", ["ftp://x", "nonsense", "http://"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(InvalidInput, match="not the address of a server"):
        HttpTransport(address, TOKEN)


def test_connect_finds_the_server_of_a_state_folder(tmp_path, services):
    state = StateFolder(tmp_path)
    with pytest.raises(Unavailable, match=r"no server runs on .* start one with `trueline up`"):
        Client.connect(state)
    lock = servers.FolderLock(state)
    with pytest.raises(Unavailable, match=r"`trueline up` on .* is starting or ending; try again in a moment"):
        Client.connect(state)
    token = tokens.ensure(state.token)
    with ApiServer(services, "127.0.0.1", 0, token) as server:
        servers.publish(state, servers.Servers(server.url, "http://127.0.0.1:1", 1))
        assert Client.reachable(state)
        with Client.connect(state) as client:
            assert client.status().project == "example"
            assert not client.in_process
    lock.release()
    assert not Client.reachable(state), "a stale server.json fools nobody"


def test_connect_follows_the_environment(tmp_path, services, monkeypatch):
    with ApiServer(services, "127.0.0.1", 0, TOKEN) as server:
        monkeypatch.setenv(ADDRESS, server.url)
        with pytest.raises(NotAuthenticated, match=tokens.VARIABLE):
            Client.connect(StateFolder(tmp_path))
        monkeypatch.setenv(tokens.VARIABLE, TOKEN)
        with Client.connect(StateFolder(tmp_path)) as client:
            assert client.status().project == "example"


def test_one_up_holds_a_state_folder(tmp_path):
    state = StateFolder(tmp_path)
    assert not servers.running(StateFolder(Path("/nonexistent/state")))
    assert not servers.running(state)
    lock = servers.FolderLock(state)
    assert servers.running(state)
    with pytest.raises(Conflict, match="already up"):
        servers.FolderLock(state)
    lock.release()
    servers.FolderLock(state).release()


def test_a_damaged_address_file_is_one_sentence(tmp_path):
    state = StateFolder(tmp_path)
    assert servers.read(state) is None
    state.servers.write_text("{")
    with pytest.raises(Unavailable, match=r"server\.json"):
        servers.read(state)
    servers.publish(state, servers.Servers("http://a", "http://b", 7))
    assert servers.read(state) == servers.Servers("http://a", "http://b", 7)
    assert state.servers.stat().st_mode & 0o777 == 0o600
    servers.withdraw(state)
    servers.withdraw(state)
    assert [entry.name for entry in tmp_path.iterdir()] == []
