"""The exact code tree of a run, uncommitted changes included, so that `why` can say what trained a version.

The digest is of file contents, the same whether or not the project is in git; the commit is kept beside it for people.
Secrets stay where they are: a file that a setting reads by `file:PATH` is no code, and passwords in URLs are masked in the
archive, which goes to MLflow and to the storage.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trueline.settings import without_secrets

SUFFIXES = frozenset({".py", ".toml", ".yaml", ".yml", ".cfg", ".ini", ".txt", ".sql"})
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist"})
SETTINGS = frozenset({".yaml", ".yml", ".toml", ".ini", ".cfg"})
REFERENCE = re.compile(r"\bfile:(?!//)([^\s'\",}\]]+)")
LARGEST_FILE = 1 << 20  # larger ones are data
GIT_SECONDS = 5.0
FILE_NAME = "code.zip"


@dataclass(frozen=True)
class CodeTree:
    """`digest` names the tree; `dirty` says that it is not what `commit` has."""

    digest: str
    commit: str | None
    dirty: bool
    files: tuple[tuple[str, str], ...]  # (path, sha256), in path order

    @property
    def sentence(self) -> str:
        if self.commit is None:
            return f"{len(self.files)} files, not under git"
        return f"commit {self.commit[:12]}" + (" with uncommitted changes" if self.dirty else "")


def snapshot(project: Path) -> CodeTree:
    """Read the project's code files and, if it is in git, the commit it stands on."""
    files = tuple((name, hashlib.sha256(path.read_bytes()).hexdigest()) for name, path in _code_files(project))
    whole = hashlib.sha256("".join(f"{digest} {name}\n" for name, digest in files).encode()).hexdigest()
    commit = _git(project, "rev-parse", "HEAD")
    dirty = bool(commit and _git(project, "status", "--porcelain", "--", "."))
    return CodeTree(whole, commit or None, dirty, files)


def keep(tree: CodeTree, project: Path, folder: Path) -> Path:
    """Put the tree's files into the run's folder, as one archive whose bytes depend on them only."""
    path = folder / FILE_NAME
    draft = folder / f".{FILE_NAME}.{os.getpid()}"
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, _ in tree.files:
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, _kept(project / name))
    draft.replace(path)
    return path


def _kept(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix not in SETTINGS:
        return content
    try:
        return without_secrets(content.decode()).encode()
    except UnicodeDecodeError:
        return content


def _secrets(project: Path) -> set[Path]:
    """The files that settings beside the code read their values from."""
    texts = (
        path.read_text(encoding="utf-8", errors="replace") for path in project.glob("*") if path.suffix in SETTINGS
    )
    return {(project / name).resolve() for text in texts for name in REFERENCE.findall(text)}


def _code_files(project: Path) -> Iterator[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    secret = _secrets(project)
    for folder, folders, files in os.walk(project):
        folders[:] = [one for one in folders if one not in SKIPPED and not one.startswith(".")]
        for name in files:
            path = Path(folder, name)
            if (
                path.suffix in SUFFIXES
                and not name.startswith(".")
                and path.is_file()
                and path.resolve() not in secret
                and path.stat().st_size <= LARGEST_FILE
            ):
                found.append((path.relative_to(project).as_posix(), path))
    yield from sorted(found)


def _git(project: Path, *arguments: str) -> str:
    """What git says, or nothing where there is no git, no repository, or no commit."""
    program = shutil.which("git")
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "-C", str(project), *arguments],
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
