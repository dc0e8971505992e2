"""Every bound of the server, declared once; the defaults are those of `python -m trueline.serving`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    body_bytes: int = 10_000_000  # a body of this size or more is refused with 413, while it streams in
    head_bytes: int = 32_768  # request line and headers: 431
    head_seconds: float = 10.0  # from the first byte of a request to the end of its headers: 408
    body_seconds: float = 30.0  # from there to the end of its body: 408
    held_bytes: int = 256_000_000  # of bodies that are still coming in, of all connections together: 503
    idle_seconds: float = 75.0  # a kept-alive connection without a request
    linger_seconds: float = 2.0  # how long a refused sender may go on sending before the connection is cut
    sweep_seconds: float = 0.5  # how exactly the times above are kept
    connections: int = 4096  # beyond it the longest idle one is closed, or else the new one is refused with 503
    pipelined: int = 128  # unanswered requests of one connection before it is not read any further
    waiting: int = 4096  # requests being worked on; more are refused with 429
    batch_rows: int = 1024  # rows of one batch, unless one request alone has more
    shadow_waiting: int = 8192  # shadow scores owed per version; more are dropped and counted
    shadow_rows: int = 256
    shadow_seconds: float = 0.01  # shadow scores are gathered this long
    batch_seconds: float = 0.9  # a version in a child process that takes longer is killed: the champion answers
    start_seconds: float = 60.0  # for a child process to load its model
    child_bytes: int = 0  # memory of a child process; 0: twice what it has once loaded, and half a GiB
    memory_seconds: float = 1.0  # how often that is looked at
    stuck_seconds: float = 2.0  # a serving process that scores one batch for longer is killed and started again
    warm_versions: int = 2  # versions that left the route table and stay loaded
    asked_versions: int = 4  # versions that were loaded by request and are in no route table
    drain_seconds: float = 8.0  # on SIGTERM, for requests in progress
