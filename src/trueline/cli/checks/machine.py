"""The machine: Python and its packages, room, descriptors, the clock, ports, sockets, and processes left behind."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from trueline import sockets
from trueline.cli.checks.finding import Finding, Patient, bad, doubtful, good
from trueline.cli.up import CONTROL_PORT, SERVE_PORT
from trueline.client import servers
from trueline.settings import LONGEST_SOCKET, SOCKET_BYTES

DESCRIPTORS = 1024
SPARE = 1024**3
SHORT = 100 * 1024**2
AHEAD_SECONDS = 120.0
PORTS = (CONTROL_PORT, SERVE_PORT)


def python(_: Patient) -> Finding:
    """The interpreter is one that trueline is made for."""
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = metadata.metadata("trueline")["Requires-Python"]
    from packaging.specifiers import SpecifierSet

    if not SpecifierSet(wanted).contains(version):
        return bad(f"Python {version}, and trueline needs {wanted}", "install such a Python and trueline into it")
    return good(f"Python {version} in {sys.prefix}")


def packages(_: Patient) -> Finding:
    """Every package that trueline needs is there, in a version it was made for."""
    from packaging.requirements import Requirement

    wrong = []
    named = [Requirement(text) for text in metadata.requires("trueline") or ()]
    needed = [one for one in named if one.marker is None or one.marker.evaluate({"extra": ""})]
    for one in needed:
        try:
            there = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{one.name} is missing")
            continue
        if not one.specifier.contains(there, prereleases=True):
            wrong.append(f"{one.name} {there} is not {one.specifier}")
    if wrong:
        return bad("; ".join(wrong), "pip install --upgrade trueline")
    return good(f"trueline {metadata.version('trueline')} and the {len(needed)} packages it names")


def state_folder(patient: Patient) -> Finding:
    """The state folder can be written, and has room."""
    root = patient.folder.root
    place = next(path for path in (root, *root.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return bad(f"{place} cannot be written", "make it writable, or choose another with --state")
    room = shutil.disk_usage(place).free
    seen = f"{root}, {room / 1024**3:.1f} GiB free"
    if room < SHORT:
        return bad(seen, "make room: predictions and labels are refused when the disk is full")
    if room < SPARE:
        return doubtful(seen, "make room soon: journals, tables and models grow here")
    return good(seen if root.exists() else f"{seen}; made at the first run")


def descriptors(_: Patient) -> Finding:
    """A process may hold enough files and connections open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
        return doubtful(f"{soft} open files for a process (at most {hard})", "ulimit -n 4096, before `trueline up`")
    return good(f"{'any number of' if soft == resource.RLIM_INFINITY else soft} open files for a process")


def clock(patient: Patient) -> Finding:
    """The clock has not gone back behind what was written before."""
    newest = max((mtime for path in _written(patient.folder.root) if (mtime := _mtime(path))), default=0.0)
    ahead = newest - time.time()
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if ahead > AHEAD_SECONDS:
        return bad(
            f"it is {now}, but state was written {ahead / 60:.0f} minutes later than that", "set the clock right"
        )
    return good(f"it is {now}")


def _written(root: Path) -> list[Path]:
    return [*root.glob("*"), *root.glob("journal/*/*.seg"), *root.glob("runs/*")]


def _mtime(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def ports(patient: Patient) -> Finding:
    """The ports of `up` are free, or used by this project's own servers."""
    if servers.running(patient.folder):
        found = servers.read(patient.folder)
        return good(f"trueline is up at {found.control} and {found.serve}" if found else "trueline is starting")
    used = [port for port in PORTS if not _free(port)]
    if not used:
        return good(f"{' and '.join(map(str, PORTS))} are free")
    seen = "; ".join(f"{port} is used by {_user_of(port)}" for port in used)
    return doubtful(seen, "stop it, or start `trueline up` with --control-port and --serve-port")


def _free(port: int) -> bool:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _user_of(port: int) -> str:
    """The process that listens there, as far as Linux tells us."""
    inode = _listener(port)
    for process in Path("/proc").glob("[0-9]*") if inode else ():
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) == f"socket:[{inode}]":
                        return f"process {process.name} ({_command(process)[:60]})"
    return "another process"


def _listener(port: int) -> str | None:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: it listens
                    return fields[9]
    return None


def _command(process: Path) -> str:
    with suppress(OSError):
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def socket_paths(patient: Patient) -> Finding:
    """The Unix sockets have paths that the kernel takes, in a folder that is ours."""
    place = patient.folder.sockets
    if len(os.fsencode(place)) + LONGEST_SOCKET > SOCKET_BYTES:
        return bad(f"{place} is too long for a socket", "set TMPDIR to a folder with a short path")
    if place.exists() and place.stat().st_uid != os.getuid():
        return bad(f"{place} belongs to another user", "remove it, or set TMPDIR to a folder of yours")
    inside = place.is_relative_to(patient.folder.root.resolve())
    return good(str(place) if inside else f"{place}, because the state folder's path is long")


def leftovers(patient: Patient) -> Finding:
    """No process of an `up` that is gone works on the state folder still."""
    if servers.running(patient.folder):
        return good("trueline is up, and so are its processes")
    mine = str(patient.folder.root.resolve())
    found = [process.name for process in Path("/proc").glob("[0-9]*") if _works_on(_command(process), mine)]
    if found:
        return doubtful(f"still running: process {', '.join(found)}", f"end it: kill {' '.join(found)}")
    stale = sockets.dead(patient.folder.sockets, "*") if patient.folder.sockets.is_dir() else []
    return good(f"{len(stale)} sockets of dead processes; the next start takes them away" if stale else "none")


def _works_on(command: str, state: str) -> bool:
    return "-m trueline." in command and f"--state {state} " in f"{command} "
