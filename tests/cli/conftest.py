import json
from dataclasses import dataclass

import pytest

from trueline.cli.main import main
from trueline.client import Client, servers
from trueline.client.client import ADDRESS
from trueline.client.transports import InProcessTransport
from trueline.security import tokens
from trueline.settings import StateFolder
from trueline.web.api.in_memory import InMemoryServices
from trueline.web.server import ApiServer


@dataclass
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Working(InMemoryServices):
    """Does its work behind the back of whoever watches a run, like a server."""

    def run(self, run_id):
        found = super().run(run_id)
        self.work_until_idle()
        return found


@pytest.fixture(autouse=True)
def _quiet_surroundings(tmp_path, monkeypatch):
    for name in (ADDRESS, tokens.VARIABLE, "TRUELINE_PROJECT", "TRUELINE_STATE", "TRUELINE_TARGET", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trueline(capfd):
    """Run one command in this process."""

    def run(*arguments):
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Said(code, *capfd.readouterr())

    return run


@pytest.fixture
def project(tmp_path):
    path = tmp_path / "trueline.yaml"
    path.write_text("version: 1\nproject: homes\ndata: {source: homes.csv, target: price}\ntrain: model.py:fit\n")
    return path


@pytest.fixture
def state(tmp_path):
    folder = StateFolder(tmp_path / ".trueline")
    folder.root.mkdir()
    return folder


@pytest.fixture
def served(state):
    """A state folder on which a server runs; its services."""
    services = Working(replaying=True)
    lock = servers.FolderLock(state)
    with ApiServer(services, "127.0.0.1", 0, tokens.ensure(state.token)) as server:
        servers.publish(state, servers.Servers(server.url, "http://127.0.0.1:1", 1))
        yield services
    lock.release()


@pytest.fixture
def unserved(project, state, monkeypatch):
    """A project on which no server runs: its services live in the command's own process."""
    services = InMemoryServices()

    def local(project_file, folder, target=None):
        assert target is None
        assert project_file.samefile(project)
        assert folder.root.absolute() == state.root
        return Client(InProcessTransport(services))

    monkeypatch.setattr(Client, "local", staticmethod(local))
    return services
