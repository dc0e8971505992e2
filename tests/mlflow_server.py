"""MLflow's own server as a process, and a line to it that can be disturbed."""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

START_SECONDS = 240.0  # it imports for ten seconds, on a machine that does nothing else


def program() -> str | None:
    """MLflow's command beside this Python, where the whole of MLflow is installed and not only its client."""
    found = Path(sys.executable).with_name("mlflow")
    return str(found) if found.exists() and importlib.util.find_spec("flask") is not None else None


class MlflowServer:
    """`mlflow server` on a database and a folder for files, both of which outlive it."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder = folder
        shutil.copy(database, folder / "server.db")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it, without waiting for it."""
        where = [
            "--backend-store-uri",
            f"sqlite:///{self.folder}/server.db",
            "--artifacts-destination",
            self.folder / "files",
        ]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(program()), "server", *where, "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
            )

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process is not None
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self.folder / "server.log").read_text()[-2000:])
            threading.Event().wait(0.1)

    def kill(self) -> None:
        """As the kernel does it, when memory runs out: everything at once."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:  # noqa: S310  it is http
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes

    @property
    def call(self) -> str:
        """What it asks for, in MLflow's words."""
        return urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/")


Fault = Callable[["Line", Request], str | int | None]
"""What becomes of a request: None passes it on, a number is the answer; `drop` closes the line before, `lose` after it was
carried out, `half` in the middle of its body."""


class Line:
    """Passes requests on to the server, unless `fault` says otherwise."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self.fault: Fault = lambda _line, _request: None
        self.seen: list[Request] = []
        line = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else self._chunks()
                line._handle(self, Request(self.command, self.path, body))

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_any  # noqa: N815  as http.server wants them

            def _chunks(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return b""
                found = b""
                while size := int(self.rfile.readline(), 16):
                    found += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return found

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None: ...  # a client that gave up

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, asked: BaseHTTPRequestHandler, request: Request) -> None:
        self.seen.append(request)
        fault = self.fault(self, request)
        if isinstance(fault, int):
            self._answer(asked, fault, b"", "text/plain")
        elif fault == "drop":
            asked.close_connection = True
        elif fault == "half":
            self._forward(asked, request, whole=False)
            asked.close_connection = True
        else:
            status, body, kind = self._forward(asked, request, whole=True)
            if fault == "lose":
                asked.close_connection = True
            else:
                self._answer(asked, status, body, kind)

    def _forward(self, asked: BaseHTTPRequestHandler, request: Request, *, whole: bool) -> tuple[int, bytes, str]:
        connection = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=60)
        try:
            connection.putrequest(request.method, request.path, skip_accept_encoding=True)
            for name, value in asked.headers.items():
                if name.lower() not in {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body if whole else request.body[: len(request.body) // 2])
            if not whole:
                return 0, b"", ""
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.getheader("Content-Type", "")
        except OSError:
            return 502, b"", "text/plain"
        finally:
            connection.close()

    def _answer(self, asked: BaseHTTPRequestHandler, status: int, body: bytes, kind: str) -> None:
        asked.send_response(status)
        asked.send_header("Content-Type", kind)
        asked.send_header("Content-Length", str(len(body)))
        asked.end_headers()
        asked.wfile.write(body)
