"""Where state lives on disk: one folder, every path in it named here and nowhere else; and secrets by reference."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trueline.errors import InvalidProject, Unavailable

CACHEDIR_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by trueline; backup tools may skip it.\n"

SOCKET_BYTES = 100
"""The kernel refuses a Unix socket's path of more than about so many bytes."""

LONGEST_SOCKET = 32

REPLICA = "r0"


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
    def people(self) -> Path:
        """The tokens of named people and programs, as digests."""
        return self.root / "tokens.json"

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

    @property
    def catalogue(self) -> Path:
        """The registered versions, for a model server that is asked to load one."""
        return self.root / "models.json"

    @property
    def asked(self) -> Path:
        """Versions that model servers were asked to load, for those that start later."""
        return self.root / "asked"

    @property
    def audits(self) -> Path:
        """What somebody had a model server do, until control has made events of it."""
        return self.root / "audits"

    @property
    def tables(self) -> Path:
        return self.root / "tables"

    def table(self, name: str) -> Path:
        return self.tables / name

    def run(self, run_id: str) -> Path:
        return self.root / "runs" / run_id

    @property
    def outputs(self) -> Path:
        """What steps of pipelines made, by digest."""
        return self.root / "outputs"

    @property
    def imports(self) -> Path:
        """Models of other targets that wait for their run."""
        return self.root / "imports"

    def of(self, target: str | None) -> StateFolder:
        """The state of one target: each has its own."""
        return self if target is None else StateFolder(self.root / "targets" / target)

    @property
    def journals(self) -> Path:
        return self.root / "journal"

    def journal(self, replica: str) -> Path:
        return self.journals / replica

    def replica(self, *, shared: bool) -> str:
        """The name of this machine's model server, once and for all; its own where machines share rows or tables."""
        name = self.root / "replica"
        if not shared or self.journal(REPLICA).exists():  # what it has written already goes by that name
            return REPLICA
        if not name.exists():
            name.write_text(f"r{secrets.token_hex(4)}\n")
        return name.read_text().strip()

    def replicas(self, count: int, *, shared: bool) -> tuple[str, ...]:
        """The names of the serving processes of this machine: r0, r1, …; behind its own name where machines share."""
        first = self.replica(shared=shared)
        base = "r{}" if first == REPLICA else f"{first}-{{}}"
        return first, *(base.format(number) for number in range(1, count))

    @property
    def contained(self) -> Path:
        """Versions that a serving process died of, by digest: they get a process of their own."""
        return self.root / "contained"

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
            for folder in (self.root, self.tables, self.root / "runs", self.imports, self.journals):
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


def resolve(text: str, key: str, root: Path | None = None) -> str:
    """What a setting means: `env:NAME` is that variable, `file:PATH` that file's text, anything else is itself.

    A relative path starts at `root`, the project's folder. `file://…` is a URL, not a reference.

    Raises:
        InvalidProject: the variable or the file is not there, or empty.
    """
    if text.startswith("env:"):
        found = os.environ.get(text[4:], "").strip()
        if not found:
            raise InvalidProject(f"{key} is {text}, but the environment variable {text[4:]} is not set; set it")
        return found
    if text.startswith("file:") and not text.startswith("file://"):
        path = (root or Path()) / text[5:]
        try:
            found = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else "it is not text"
            raise InvalidProject(
                f"{key} is {text}, but {path} cannot be read ({reason}); put the value there"
            ) from None
        if not found:
            raise InvalidProject(f"{key} is {text}, but {path} is empty; put the value there")
        return found
    return text


_USERINFO = re.compile(r"(?<=://)([^:/@]*):.*@")
_TOKEN = re.compile(r"(?<=^https://)[^:/@]+@|(?<=^http://)[^:/@]+@")
_PARAMETER = re.compile(r"((?:password|passwd|secret|token|key)\s*=)\s*[^&;\s]+", re.IGNORECASE)


def shown(url: str) -> str:
    """A URL as it may be printed: passwords and tokens are hidden, generously where the URL is odd.

    >>> shown("postgresql://ann:s3cret@db/trueline?sslmode=require"), shown("env:DATABASE_URL")
    ('postgresql://ann:***@db/trueline?sslmode=require', 'env:DATABASE_URL')
    """
    return _PARAMETER.sub(r"\1***", _TOKEN.sub("***@", _USERINFO.sub(r"\1:***@", url)))


_URL = re.compile(r"[a-z][a-z0-9+.-]*://.*", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """A text as it may be kept and shown: what URLs in it carry of passwords is hidden.

    >>> without_secrets("database: postgresql://ann:s3cret@db/trueline  # ours")
    'database: postgresql://ann:***@db/trueline  # ours'
    """
    return _URL.sub(lambda url: shown(url[0]), text)
