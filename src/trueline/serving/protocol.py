"""HTTP/1.1 on one connection: httptools parses, this keeps order, limits and time.

Each complete request becomes an `Exchange` in the connection's queue. Answers may be ready in any order (batches of
different versions) and leave in the order of the requests. A request that breaks a limit is answered at once, after
what came before it; then nothing more is read from it: the sender may go on for a moment (closing at once would make
the kernel throw away the answer he has not read yet) and is cut off.

Times are kept by one sweep over all connections (`Connections.sweep`) instead of a timer for each request. What many
senders could do together is bounded too: connections, bytes of unfinished bodies, and the time one of them has in a turn.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import cast
from urllib.parse import unquote_to_bytes

import httptools
import msgspec

from trueline.errors import TruelineError
from trueline.serving import descriptors
from trueline.serving.limits import Limits
from trueline.serving.responses import CONTINUE, JSON, Header, headers_for, problem, response, tick

log = logging.getLogger(__name__)

SLICE = 16_384  # bytes parsed before the limits are looked at again
TURN_SECONDS = 0.002  # of parsing what one connection has sent, before the others have their turn
IDLE_SECONDS = 1.0  # since its last answer: a connection that may have to make way for a new one
_OVERHEAD = 8  # bytes on the wire for a byte of a body: chunks of one byte need six
_NOTHING, _HEAD, _BODY = range(3)  # what a deadline was set for
_RETRY: tuple[Header, ...] = ((b"retry-after", b"1"),)
_METHODS = {name.encode(): name for name in ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")}


class Request(msgspec.Struct):
    method: str
    path: str  # decoded, without the query
    headers: dict[bytes, bytes]  # names in lower case
    body: bytes


class Exchange(msgspec.Struct, eq=False):
    """One request's place in its connection; answered exactly once, whenever that may be."""

    connection: Connection
    last: bool  # nothing is asked after it
    keeps: bool = False  # a client of HTTP/1.0 that wants to go on, and to be told so
    head: bool = False  # it wants to know only how long the answer is
    data: bytes | None = None

    def answer(self, status: int, body: bytes, kind: bytes = JSON, headers: tuple[Header, ...] = ()) -> None:
        if self.data is not None:
            return
        connection = self.connection
        if connection.server.draining:
            self.last = True
        if self.last or self.keeps or self.head:
            self.data = response(
                status, body, kind, headers, close=self.last, keep_alive=self.keeps and not self.last, head=self.head
            )
        else:
            self.data = response(status, body, kind, headers)
        connection.flush()

    def refuse(self, error: TruelineError) -> None:
        self.answer(error.status, problem(str(error)), JSON, headers_for(error))


Handle = Callable[[Request, Exchange], None]


class Connections:
    """All open connections and what they share."""

    def __init__(self, handle: Handle, limits: Limits) -> None:
        self.handle = handle
        self.limits = limits
        self.draining = False
        self.open: set[Connection] = set()
        self.most = descriptors.connections(limits.connections)
        self.held = 0  # bytes of bodies that are still coming in
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self.now = self.time()  # as of the last sweep
        self.idle_until = self.now + limits.idle_seconds  # who begins to be idle now
        self._timer: asyncio.TimerHandle | None = None
        self._idle: list[Connection] | None = None  # who may have to make way until the next sweep, the longest last
        self.refusals: Callable[[int], None] = lambda status: None  # noqa: ARG005  told of refusals that reach no handler
        self.sweep()

    def __call__(self) -> Connection:
        return Connection(self)

    def sweep(self) -> None:
        tick()
        self.now = self.time()
        self.idle_until = self.now + self.limits.idle_seconds
        self._idle = None
        for connection in [one for one in self.open if one.deadline <= self.now]:
            connection.overdue()
        self._timer = self._loop.call_later(self.limits.sweep_seconds, self.sweep)

    def make_way(self) -> bool:
        """Close the connection that has been idle for longest, so that who holds them all idle keeps nobody out."""
        latest = self.idle_until - IDLE_SECONDS
        if self._idle is None:  # once a sweep, however many come: who begins to be idle now is looked at after the next
            idle = [one for one in self.open if one.idle and one.deadline <= latest]
            self._idle = sorted(idle, key=lambda one: one.deadline, reverse=True)
        while self._idle:
            longest = self._idle.pop()
            if longest.idle and longest.deadline <= latest and longest in self.open:  # it was; is it still?
                longest.abort()
                self.open.discard(longest)
                return True
        return False

    def drain(self) -> None:
        """Take no further requests; connections close as their last answer leaves."""
        self.draining = True
        for connection in list(self.open):
            connection.close_if_idle()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self.open):
            connection.abort()


class Connection(asyncio.Protocol):
    def __init__(self, server: Connections) -> None:
        self.server = server
        self.deadline = math.inf
        self._limits = server.limits
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Exchange] = deque()
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._receiving = False  # inside a request
        self._in_head = False
        self._awaited = _NOTHING
        self._chunk = 0  # bytes being parsed
        self._wire = 0  # bytes that came for the body so far, if it comes in parts
        self._refused = False  # nothing more is read from this sender
        self._continue_due = False
        self._upgrade = False  # it is offered in the head that was just read
        self._backlog = b""  # received and not parsed yet
        self._paused = False  # nothing is read or parsed at the moment: he sends faster than he reads or we answer
        self._clogged = False  # he does not read
        self._later: deque[tuple[Request, Exchange]] = deque()  # that came while he did not

    # -- the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        server = self.server
        server.open.add(self)
        self.deadline = server.idle_until
        if len(server.open) > server.most and not server.make_way():
            self._refuse(503, "too many connections; try again in a second", _RETRY)

    def connection_lost(self, problem: Exception | None) -> None:  # noqa: ARG002  the interface's name
        self.server.open.discard(self)
        self._refused = True
        self._queue.clear()
        self._later.clear()
        self._let_go()

    def data_received(self, data: bytes) -> None:
        if self._backlog or len(data) > SLICE:
            self._backlog += data
            if not self._paused:
                self._work_off()
        elif not self._refused:
            self._feed(data)

    def _work_off(self) -> None:
        """Parse what is there, as long as the answers keep up: a chunk can hold thousands of small requests."""
        until = self.server.time() + TURN_SECONDS
        while self._backlog and not self._refused:
            if self.server.time() > until:
                self._pause()
                self._resume()
                return
            if self._clogged or len(self._queue) >= self._limits.pipelined:
                self._pause()
                return
            data, self._backlog = self._backlog[:SLICE], self._backlog[SLICE:]
            self._feed(data)
        if self._refused:
            self._backlog = b""
        self._resume_reading()

    def _feed(self, data: bytes) -> None:
        self._chunk = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :] if offer.args else b"")
            return
        except httptools.HttpParserError as broken:
            if not self._refused:
                self._refuse(400, f"this is not a request of HTTP/1.1: {_reason(broken)}")
            return
        if self._receiving:
            self._await()

    def _await(self) -> None:
        """A request is there in part: the rest has its time, its headers their size, its body a share of memory."""
        if not self._in_head:
            if self._awaited != _BODY:
                self._awaited = _BODY
                self._due_in(self._limits.body_seconds)
            self._hold()
        elif self._awaited != _HEAD:
            self._awaited = _HEAD
            self._due_in(self._limits.head_seconds)
        else:
            self._head_bytes += self._chunk
            if self._head_bytes > self._limits.head_bytes:
                self._refuse(431, f"request line and headers exceed {self._limits.head_bytes} bytes")

    def _hold(self) -> None:
        """Count the bytes of a body in parts; trailers and chunk extensions are bytes too."""
        self._wire += self._chunk
        self.server.held += self._chunk
        if self._wire > _OVERHEAD * self._body_bytes + self._limits.head_bytes + SLICE:
            self._refuse(431, f"chunk extensions and trailers exceed {self._limits.head_bytes} bytes")
        elif self.server.held > self._limits.held_bytes:
            self._refuse(503, "too many large bodies come in at once; try again in a second", _RETRY)

    def _let_go(self) -> None:
        """The body is complete or given up."""
        self.server.held -= self._wire
        self._wire = 0

    def _decline(self, rest: bytes) -> None:
        """An offer to upgrade made the parser stop after the headers: parse the request again without the offer."""
        if self._refused:
            return
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(405, "CONNECT is for proxies; this is a model server")
            return
        version = self._parser.get_http_version().encode()
        kept = [name for name in self._headers if name not in (b"upgrade", b"connection", b"http2-settings")]
        head = b"".join([b"%b: %b\r\n" % (name, self._headers[name]) for name in kept])
        if b"close" in self._headers.get(b"connection", b"").lower():
            head += b"connection: close\r\n"
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._url, version, head)
        self._parser = httptools.HttpRequestParser(self)
        self._feed(head + rest)

    def eof_received(self) -> bool:
        """Answer what is complete, then close; a request cut off in the middle gets nothing."""
        if self._queue:
            self._queue[-1].last = True
            self._refused = True
            return True
        return False

    def pause_writing(self) -> None:
        self._clogged = True
        self.deadline = self.server.now + self._limits.body_seconds
        self._pause()

    def resume_writing(self) -> None:
        self._clogged = False
        limits = self._limits
        if self._refused and not self._queue:
            self._due_in(limits.linger_seconds)
        else:
            self._due_in(math.inf if self._queue else limits.body_seconds if self._receiving else limits.idle_seconds)
        if self._later:
            asyncio.get_running_loop().call_soon(self._catch_up)
        self._resume()

    def _catch_up(self) -> None:
        """He has read: on with what he had asked for."""
        while self._later and not self._clogged:
            self._handle(*self._later.popleft())

    # -- the parser calls

    def on_message_begin(self) -> None:
        if self._refused:
            return
        self._receiving = self._in_head = True
        self._url = b""
        self._headers = {}
        self._head_bytes = self._body_bytes = 0
        self._awaited = _NOTHING

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers say nothing: who looks at headers on the way here has not seen them
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._upgrade = self._parser.should_upgrade()
        if self._refused or self._upgrade:
            return
        headers = self._headers
        if self._head_bytes or self._chunk > self._limits.head_bytes:  # else they came in one small piece
            size = len(self._url) + sum(map(len, headers)) + sum(map(len, headers.values()))
            if size > self._limits.head_bytes:
                self._refuse(431, f"request line and headers exceed {self._limits.head_bytes} bytes")
                return
        length = headers.get(b"content-length")
        if length is not None and int(length) >= self._limits.body_bytes:
            self._too_large()
        elif length is None and (coding := headers.get(b"transfer-encoding", b"chunked").strip().lower()) != b"chunked":
            ends = coding.rpartition(b",")[2].strip() == b"chunked"  # else nobody knows where the body does
            sentence = "Transfer-Encoding: expected chunked alone; a packed body has a Content-Encoding"
            self._refuse(501 if ends else 400, sentence)  # RFC 9112, 6.1 and 6.3
        elif b"expect" in headers and (length or b"transfer-encoding" in headers):
            known = self._parser.get_http_version() != "1.0"  # who speaks that knows of no such answer
            self._continue_due = known and headers[b"expect"].strip().lower() == b"100-continue"
            if self._continue_due:
                self._invite()

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._body_bytes += len(body)
        if self._body_bytes >= self._limits.body_bytes:
            self._too_large()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._receiving = self._in_head = self._continue_due = False
        if self._wire:
            self._let_go()
        if self._refused or self._upgrade:
            return
        parser, headers, body = self._parser, self._headers, self._body
        name = parser.get_method()
        method = _METHODS.get(name) or name.decode("ascii", "replace")
        if parser.should_keep_alive():
            exchange = Exchange(self, False)
            if b"connection" in headers:  # who keeps alive in HTTP/1.0 says so
                exchange.keeps = parser.get_http_version() == "1.0"
        else:
            exchange = Exchange(self, True)
            self._refused = True
        if method == "HEAD":
            exchange.head = True
        self._queue.append(exchange)
        if body:
            self._body = []
        request = Request(method, _path(self._url), headers, body[0] if len(body) == 1 else b"".join(body))
        if self._clogged:  # a few bytes can ask for megabytes: not before he has read what he asked for
            self._later.append((request, exchange))
            return
        self.deadline = math.inf
        self._handle(request, exchange)

    def _handle(self, request: Request, exchange: Exchange) -> None:
        try:
            self.server.handle(request, exchange)
        except Exception:
            log.exception("a defect in trueline, while answering %s %r", request.method, request.path)
            exchange.answer(500, problem("an unexpected error happened here; the server's log has it"))

    # -- answers

    def flush(self) -> None:
        """Write the answers that are ready and whose turn it is."""
        queue = self._queue
        while queue:
            first = queue[0]
            if first.data is None:
                break
            self._transport.write(first.data)
            queue.popleft()
            if first.last:
                queue.clear()
                self._finish()
                return
        else:
            if self._continue_due:
                self._invite()
            if not (self._receiving or self._clogged):
                self.deadline = self.server.idle_until
        if self._paused:
            self._resume()

    def overdue(self) -> None:
        """The sweep found the deadline passed."""
        if self._receiving and not self._refused and not self._clogged:
            part = "headers" if self._in_head else "body"
            self._refuse(408, f"the {part} of the request did not arrive in time")
        else:
            self.abort()

    @property
    def quiet(self) -> bool:
        """Nothing is owed to this client: no answer is due and all bytes have left."""
        return not self._queue and self._transport.get_write_buffer_size() == 0

    @property
    def idle(self) -> bool:
        return not (self._queue or self._receiving or self._refused or self._clogged)

    def close_if_idle(self) -> None:
        if not self._queue and not self._receiving:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _refuse(self, status: int, sentence: str, headers: tuple[Header, ...] = ()) -> None:
        """Answer in turn and read no further."""
        self._refused = True
        self._receiving = False
        self._body = []
        self._let_go()
        self.server.refusals(status)
        exchange = Exchange(self, True)
        self._queue.append(exchange)
        exchange.answer(status, problem(sentence), JSON, headers)

    def _too_large(self) -> None:
        self._refuse(413, f"the body must have less than {self._limits.body_bytes} bytes; send fewer rows at once")

    def _finish(self) -> None:
        """Say goodbye: our half is closed, his may linger for a moment."""
        self._refused = True
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._due_in(self._limits.linger_seconds)
            self._paused = False
            self._resume_reading()  # his end of stream must be seen
        else:
            self._transport.close()

    def _invite(self) -> None:
        """Answer `Expect: 100-continue` once nothing else is to be answered before it."""
        if not self._queue:
            self._continue_due = False
            self._transport.write(CONTINUE)

    def _due_in(self, seconds: float) -> None:
        if not self._clogged:  # then he must read, before anything else counts
            self.deadline = self.server.now + seconds

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        """Go on when the answers have caught up: first with the backlog, at the next turn, then with the socket."""
        if self._paused and not self._clogged and len(self._queue) < self._limits.pipelined:
            self._paused = False
            asyncio.get_running_loop().call_soon(self._work_off)

    def _resume_reading(self) -> None:
        if not self._paused and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()


@lru_cache(maxsize=1024)
def _path(url: bytes) -> str:
    if not url.startswith(b"/"):  # the absolute form, or `*`
        try:
            url = httptools.parse_url(url).path or b"/"
        except httptools.HttpParserInvalidURLError:
            return "*"
    path = url.partition(b"?")[0]
    return unquote_to_bytes(path).decode("utf-8", "replace") if b"%" in path else path.decode("utf-8", "replace")


def _reason(broken: Exception) -> str:
    return str(broken) or type(broken).__name__
