"""Ports: taken by one process for itself, or reserved by a parent for processes that share it.

With SO_REUSEPORT the kernel deals new connections out to every process that listens on a port. It also lets any program
of the same user join in unasked, so the parent first binds the port as one that nobody shares, which fails with the
usual error when anybody listens there; only then does it open the port for sharing. It keeps its socket, which does
not listen and gets no connections: so port 0 becomes one number for all, and no program of another kind takes the port
while the processes restart. Standard library only: the command line imports this.
"""

from __future__ import annotations

import errno
import ipaddress
import socket

from trueline.errors import Unavailable

BACKLOG = 1024


def reserve(host: str, port: int, *, remedy: str = "choose another --port") -> socket.socket:
    """Keep a port for processes that will `bind` it with `shared`; it is kept until the socket is closed.

    Raises:
        Unavailable: somebody listens there, or the port may not be used.
    """
    kept = _bound(host, port, remedy, shared=False)
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return kept


def bind(host: str, port: int, *, shared: bool = False, remedy: str = "choose another --port") -> socket.socket:
    """A socket that is bound and does not listen yet; raises Unavailable as `reserve` does."""
    return _bound(host, port, remedy, shared=shared)


def listen(bound: socket.socket, *, remedy: str = "choose another --port") -> None:
    """Begin to listen; raises Unavailable when somebody else was quicker."""
    try:
        bound.listen(BACKLOG)
    except OSError as problem:
        host, port = bound.getsockname()[:2]
        raise Unavailable(_sentence(host, port, problem, remedy)) from problem


def loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bound(host: str, port: int, remedy: str, *, shared: bool) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except OSError as problem:
        raise Unavailable(f"cannot listen on {host}: {problem.strerror or problem}; choose another --host") from problem
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
    except OSError as problem:
        made.close()
        raise Unavailable(_sentence(host, port, problem, remedy)) from problem
    made.setblocking(False)
    return made


def _sentence(host: str, port: int, problem: OSError, remedy: str) -> str:
    what = "is in use" if problem.errno == errno.EADDRINUSE else f"cannot be used ({problem.strerror or problem})"
    return f"port {port} on {host} {what}; stop what listens there or {remedy}"
