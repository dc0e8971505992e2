"""A small world for the demo's driver: a serving process and a control plane of a hundred lines, no engines.

The fake serves January's model until its script promotes a better one, as the real one would.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

from trueline.web.api.events import EventList, EventView
from trueline.web.api.incidents import IncidentList, IncidentView
from trueline.web.api.releases import ReleaseList, ReleaseView
from trueline.web.api.replay import ReplayView

START = datetime(2013, 2, 1, tzinfo=UTC)


class FakeServe:
    """Answers /predict with 100 minutes plus the version, and counts what it was sent."""

    def __init__(self) -> None:
        self.version = 1
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.fail_next = 0
        self.drop_next = 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one write an answer: two would wait for each other (Nagle, delayed ACK)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if fake.drop_next:
                    fake.drop_next -= 1
                    self.close_connection = True
                    return
                status, answer = fake.answer(self.path, dict(self.headers), body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        if self.fail_next:
            self.fail_next -= 1
            return 400, {"error": "column 'distance': is missing"}
        self.requests.append((path, headers, body))
        if path == "/labels":
            return 200, {"accepted": len(body["labels"]), "label_ids": []}
        rows = body["instances"]
        ids = [f"{headers['X-Request-Id']}-{row}" for row in range(len(rows))]
        values = [row["distance"] / 7 + 20 + self.version for row in rows]
        return 200, {"predictions": values, "prediction_ids": ids, "model": "flight-times", "version": self.version}

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass
class FakeControl:
    """The client's methods, over a script: runs train at once, gates fail what is planted, canaries roll back."""

    now: datetime = START
    champion: int | None = None
    log: list[EventView] = field(default_factory=list)
    runs: dict[str, Any] = field(default_factory=dict)
    times: list[datetime] = field(default_factory=list)
    verdicts: dict[int, tuple[str, str]] = field(default_factory=dict)
    back: dict[int, ReleaseView] = field(default_factory=dict)
    waived: list[tuple[int, str]] = field(default_factory=list)
    pages: list[IncidentView] = field(default_factory=list)
    trains: bool = True
    due_every: timedelta | None = None  # None: does not say when it is needed next

    def record(self, kind: str, ref: str, reason: str, **detail: Any) -> None:
        event = EventView(
            id=len(self.log) + 1,
            at=self.now,
            wall_at=self.now,
            kind=kind,
            ref=ref,
            actor="control",
            reason=reason,
            detail=detail,
        )
        self.log.append(event)

    def replay(self, now: datetime) -> ReplayView:
        assert now >= self.now, "replayed time only goes forward"
        self.now = now
        self.times.append(now)
        for run in self.runs.values():
            if run.version is None and self.trains:
                self._train(run)
        return ReplayView(now, replaying=True, next_due=now + self.due_every if self.due_every else None)

    def _train(self, run: Any) -> None:
        run.version = len(self.verdicts) + 1
        bad = run.entry is not None
        self.verdicts[run.version] = (
            ("fail", "21.1 against 8.2 minutes") if bad else ("pass", "no champion to compare with")
        )
        verdict, reason = self.verdicts[run.version]
        self.record("gate.decide", f"gate-{run.version}", reason, version=run.version, verdict=verdict)
        if not bad:
            self.champion = run.version
            self.record("release.promote", "release-1", "its gate passed", version=run.version)

    def status(self) -> Any:
        return SimpleNamespace(champion=self.champion)

    def start_run(self, *, fit: str | None = None, reason: str = "") -> Any:
        run = SimpleNamespace(id=f"run-{len(self.runs) + 1}", entry=fit, version=None, state="succeeded", error=None)
        self.runs[run.id] = run
        self.record("run.create", run.id, reason)
        return run

    def run(self, run_id: str) -> Any:
        return self.runs[run_id]

    def gates(self, *, version: int) -> Any:
        verdict, reason = self.verdicts.get(version, (None, None))
        return SimpleNamespace(items=[SimpleNamespace(verdict=verdict, reason=reason)])

    def waive(self, number: int, reason: str) -> None:
        self.waived.append((number, reason))
        self.record("gate.waive", f"gate-{number}", reason, version=number)
        self.back[number] = ReleaseView(
            id=f"release-{number}",
            state="rolled_back",
            version=number,
            previous=1,
            step=0,
            vouched=False,
            evidence={},
            reason="labelled loss is beyond 5 % of the champion's",
            actor="control",
            created_at=self.now,
            stage_since=self.now,
            finished_at=self.now + timedelta(days=2),
            requests_answered=131,
            rollback_ms=38.4,
        )

    def releases(self, *, version: int) -> ReleaseList:
        return ReleaseList([self.back[version]] if version in self.back else [])

    def incidents(self, *, limit: int = 50) -> IncidentList:
        return IncidentList(self.pages[:limit])

    def events(self, *, after: int = 0, limit: int = 200) -> EventList:
        items = [event for event in self.log if event.id > after][:limit]
        return EventList(items, items[-1].id if items else after)
