"""Where state lives on disk: one folder, every path in it named here and nowhere else."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trueline.errors import Unavailable

CACHEDIR_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by trueline; backup tools may skip it.\n"

SOCKET_BYTES = 100
"""The kernel refuses a Unix socket's path of more than about so many bytes."""

LONGEST_SOCKET = 32


@dataclass(frozen=True)
class StateFolder:
    """The `.trueline/` folder beside a project file."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "control.db"

    @property
    def token(self) -> Path:
        return self.root / "token"

    @property
    def servers(self) -> Path:
        """Addresses of running servers, for the client."""
        return self.root / "server.json"

    @property
    def tracking_database(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def tracking_artifacts(self) -> Path:
        return self.root / "mlartifacts"

    @property
    def routes(self) -> Path:
        """The last route table, read by a serving process that starts while control is down."""
        return self.root / "routes.json"

    def table(self, name: str) -> Path:
        return self.root / "tables" / name

    def run(self, run_id: str) -> Path:
        return self.root / "runs" / run_id

    @property
    def journals(self) -> Path:
        return self.root / "journal"

    def journal(self, replica: str) -> Path:
        return self.journals / replica

    @property
    def sockets(self) -> Path:
        """The private folder of the Unix sockets: inside, or in the temporary folder where that would be too long."""
        inside = self.root.resolve() / "sockets"
        if len(os.fsencode(inside)) + LONGEST_SOCKET <= SOCKET_BYTES:
            return inside
        key = hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"trueline-{os.getuid()}-{key}"

    def socket(self, name: str) -> Path:
        return self.sockets / f"{name}.sock"

    def bell(self, name: str) -> Path:
        """Where a process listens for being woken."""
        return self.socket(name).with_suffix(".bell")

    def create(self) -> StateFolder:
        """Make the folder, private sockets' folder included; say clearly when that is impossible."""
        try:
            for folder in (self.root, self.root / "tables", self.root / "runs", self.journals):
                folder.mkdir(parents=True, exist_ok=True)
            if not (self.root / ".gitignore").exists():
                (self.root / ".gitignore").write_text("*\n")
            if not (self.root / "CACHEDIR.TAG").exists():
                (self.root / "CACHEDIR.TAG").write_text(CACHEDIR_TAG)
            probe = self.root / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
            sockets = self.sockets
            sockets.mkdir(mode=0o700, exist_ok=True)
            if sockets.stat().st_uid != os.getuid():
                raise Unavailable(f"{sockets} belongs to another user; remove it or set TMPDIR to a folder of yours")
        except OSError as problem:
            raise Unavailable(
                f"the state folder {self.root} cannot be written ({problem.strerror or problem}); "
                "make it writable or choose another with --state"
            ) from problem
        return self
