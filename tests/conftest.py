"""What tests of several folders share: the databases that everything must work on."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths

import mlflow_server as mlflow
import postgres
from real import need
from trueline.clock import SystemClock
from trueline.store.engine import open_store
from trueline.tracking.mlflow_store import MlflowTracking

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

settings.register_profile("trueline", deadline=None)  # a busy machine is not a defect
settings.register_profile("ci", settings.get_profile("trueline"), derandomize=True, database=None, print_blob=True)
settings.load_profile("trueline")


@pytest.fixture(scope="session")
def postgresql():
    """A running server."""
    need(importlib.util.find_spec("psycopg"), "psycopg (pip install 'trueline[postgresql]')")
    programs = postgres.binaries()
    need(programs, "PostgreSQL's server (apt install postgresql)")
    with postgres.running(programs) as server:
        yield server


@pytest.fixture(scope="session")
def shared_postgresql(postgresql):
    """The URL of a database that has the schema: tests get it one after the other, emptied."""
    url = postgresql.fresh()
    open_store(url, SystemClock()).close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """Where a test's own database is: each test that asks for it runs on both."""
    if request.param == "sqlite":
        yield tmp_path / "control.db"
        return
    url = request.getfixturevalue("shared_postgresql")
    request.getfixturevalue("postgresql").empty(url)
    yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request, tmp_path):
    """Where a database could be made that nobody has opened yet."""
    return tmp_path / "control.db" if request.param == "sqlite" else request.getfixturevalue("postgresql").fresh()


@pytest.fixture(scope="session")
def chromium():
    """One browser for all tests: Playwright runs one at a time in a process."""
    need(importlib.util.find_spec("playwright"), "playwright (pip install playwright)")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    need(program, "a browser (apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playing:
        browser = playing.chromium.launch(executable_path=program, headless=True, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory):
    """An MLflow database as its migrations leave it: made once, for they take seconds; tests copy it."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowTracking(folder / "mlflow.db", folder / "artifacts").close()
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory, mlflow_database):
    """MLflow's own server; tests share it as teams do."""
    need(mlflow.program() is not None, "MLflow's server (pip install mlflow)")
    server = mlflow.MlflowServer(tmp_path_factory.mktemp("server"), mlflow_database)
    server.launch()
    try:
        server.wait()
        yield server
    finally:
        server.kill()


@pytest.fixture
def mlflow_line(mlflow_server):
    """A line to that server that a test may disturb."""
    line = mlflow.Line(mlflow_server.url)
    yield line
    line.close()
