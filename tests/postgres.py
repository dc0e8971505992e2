"""A PostgreSQL server of one's own: started once, with a database for each test, gone with the session."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

USER, PASSWORD = "trueline", "s3cret-and-never-told"
START_SECONDS = 60
SETTINGS = ("fsync=off", "full_page_writes=off", "max_connections=200", "shared_buffers=32MB")
ACCESS = f"local all postgres trust\nhost all {USER},reader 127.0.0.1/32 scram-sha-256\n"


def binaries() -> Path | None:
    """The folder of initdb and postgres: on the path, or where Debian puts the newest."""
    found = shutil.which("postgres")
    if found:
        return Path(found).parent
    folders = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    return max(folders, key=lambda path: int(path.parent.name), default=None)


@dataclass
class Server:
    """A running server; `folder` holds its data and its socket."""

    programs: Path
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    _made: int = field(default=0)

    def start(self) -> None:
        options = [word for setting in SETTINGS for word in ("-c", setting)]
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*_not_root(), *command, "-h", "127.0.0.1", "-p", str(self.port), *options], stderr=log, cwd=self.folder
            )
        for _ in range(START_SECONDS * 20):
            with suppress(Exception), self.admin():
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
        raise AssertionError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends sessions and stops; SIGQUIT is a crash, from which the next start recovers."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(START_SECONDS)

    @contextmanager
    def admin(self, database: str = "postgres") -> Iterator[Any]:
        """A session that may do everything."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            yield connection

    def url(self, database: str, *, user: str = USER, password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        self._made += 1
        name = f"test_{self._made}"
        with self.admin() as session:
            session.execute(f"create database {name} owner {USER}")
        return self.url(name)

    def empty(self, url: str) -> None:
        """Take every row out of a database, which is a hundred times quicker than another database."""
        with self.admin(url.rpartition("/")[2]) as session:
            others = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            session.execute(f"select pg_terminate_backend(pid) from ({others}) others")  # noqa: S608 our own words
            tables = session.execute(
                "select tablename from pg_tables where schemaname = 'public' and tablename <> 'alembic_version'"
            )
            emptied = [f'delete from "{name}"' for (name,) in tables]  # noqa: S608 names of our own tables
            counters = session.execute("select sequencename from pg_sequences where schemaname = 'public'")
            session.execute("; ".join([*emptied, *(f'alter sequence "{name}" restart' for (name,) in counters)]))


@contextmanager
def running(programs: Path) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="trueline-pg-"))  # short, for the socket in it
    if _not_root():
        shutil.chown(folder, "postgres", "postgres")
    initdb = [*_not_root(), str(programs / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "-A", "trust"]
    initdb += ["-N", "-E", "UTF8", "--locale=C.UTF-8"]
    server = Server(programs, folder, _free_port())
    try:
        subprocess.run(initdb, check=True, cwd=folder, capture_output=True)
        (folder / "data" / "pg_hba.conf").write_text(ACCESS)
        server.start()
        with server.admin() as session:
            session.execute(f"create role {USER} login password '{PASSWORD}'")
            session.execute("create role reader login password 'reader'")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _not_root() -> list[str]:
    """PostgreSQL refuses to be root; root becomes the user that Debian's package made."""
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
