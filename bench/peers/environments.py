"""Environments of their own for the peers: one for each, filled by pip from a pinned list, used again next time."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
FILLED = "requirements.txt"
PIP_OPTIONS: tuple[str, ...] = ("--quiet", "--disable-pip-version-check")


class NotInstalled(Exception):
    """A peer's packages could not be installed; says which peer, and pip's own reason."""


def cache() -> Path:
    """Where environments are kept when no folder is named."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "trueline" / "bench"


def python_of(peer: str, folder: Path, *, requirements: Path | None = None) -> Path:
    """The interpreter of a peer's environment, which is made first where it is not there yet; NotInstalled."""
    requirements = requirements or REQUIREMENTS
    wanted = (requirements / f"{peer}.txt").read_text()
    environment = folder_of(peer, wanted, folder)
    filled = environment / FILLED
    if not filled.exists():
        _make(environment, requirements / f"{peer}.txt", peer)
        filled.write_text(wanted)  # last: an environment that was interrupted is made anew
    return environment / "bin" / "python"


def folder_of(peer: str, wanted: str, folder: Path) -> Path:
    """Another list, or another Python, is another environment."""
    key = hashlib.sha256(f"{sys.version}\n{sys.base_prefix}\n{wanted}".encode()).hexdigest()[:12]
    return folder / f"{peer}-{key}"


def _make(environment: Path, requirements: Path, peer: str) -> None:
    started = time.monotonic()
    print(f"installing {peer} into {environment} …", file=sys.stderr, flush=True)
    shutil.rmtree(environment, ignore_errors=True)
    try:
        environment.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise NotInstalled(f"{peer}: {environment.parent} cannot be made: {problem.strerror}") from None
    _run(peer, [sys.executable, "-m", "venv", "--without-pip", str(environment)])
    # Our own pip fills it: a pip in each would cost some seconds each.
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    _run(peer, [*pip, "install", *PIP_OPTIONS, "--requirement", str(requirements)])
    print(f"installed {peer} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _run(peer: str, command: list[str]) -> None:
    ended = subprocess.run(command, capture_output=True, check=False, text=True)
    if ended.returncode:
        raise NotInstalled(f"{peer} could not be installed: {_reason(ended.stderr or ended.stdout)}")


def _reason(said: str) -> str:
    """The line of pip's that tells most."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it gave no reason"])[-1].removeprefix("ERROR: ")
