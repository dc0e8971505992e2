"""A proxy before an S3 server that misbehaves as it is told on stdin, one JSON list of fates per line.

A process of its own, for delta-rs holds Python's lock while it waits. A fate: {pattern, status, code, each, times}:
requests whose "METHOD path" the pattern finds are answered with that status (0: carried out, but the answer is lost;
-1: nobody answers), so many times in all, and where `each` is true so many times for each method and path. The answer
to every line is the list of requests seen since the last one.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOST, HANGS = 0, -1
SECONDS = 60.0


class Fates:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fates: list[dict[str, Any]] = []
        self._met: Counter[Any] = Counter()
        self._seen: list[str] = []
        self.over = threading.Event()

    def tell(self, fates: list[dict[str, Any]]) -> list[str]:
        with self._lock:
            self._fates, self._met = fates, Counter()
            seen, self._seen = self._seen, []
            return seen

    def of(self, request: str) -> dict[str, Any] | None:
        with self._lock:
            self._seen.append(request)
            for number, fate in enumerate(self._fates):
                key = (number, request if fate["each"] else None)
                if re.search(fate["pattern"], request) and self._met[key] < fate["times"]:
                    self._met[key] += 1
                    return fate
        return None


FATES = Fates()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream = 0

    def do(self) -> None:
        body = self._body()
        fate = FATES.of(f"{self.command} {self.path}")
        status = None if fate is None else fate["status"]
        if status == HANGS:
            FATES.over.wait(SECONDS)
            self.close_connection = True
        elif status == LOST or status is None:
            self._pass_on(body, lose=status == LOST)
        else:
            told = f"<Code>{fate['code']}</Code><Message>because</Message><RequestId>1</RequestId>"
            refused = f'<?xml version="1.0" encoding="UTF-8"?><Error>{told}</Error>'.encode()
            self._say(status, {"Content-Type": "application/xml"}, refused)

    def _pass_on(self, body: bytes, *, lose: bool) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=SECONDS)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        line.request(self.command, self.path, body, headers)
        answer = line.getresponse()
        told = answer.read()
        line.close()
        if lose:
            self.close_connection = True
            return
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
        self._say(answer.status, dict(answer.headers), told, length)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _say(self, status: int, headers: dict[str, str], body: bytes, length: str | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection", "server", "date"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do  # noqa: N815  as http.server names them

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients hang up on us as we do on them."""


def main(upstream: int) -> None:
    Handler.upstream = upstream
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(FATES.tell(json.loads(line))) + "\n")
        sys.stdout.flush()
    FATES.over.set()


if __name__ == "__main__":
    main(int(sys.argv[1]))
