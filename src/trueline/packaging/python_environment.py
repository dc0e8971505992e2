"""The environment of a Python model: what it imports, locked, and an interpreter that has exactly that.

The lock names every distribution that the object's code imports, and all that those need, with their versions. A process that has
them all as they are in the lock runs the model with its own interpreter. Elsewhere an environment is built, once per
lock, when the model is loaded and never while a request waits, and kept in the state folder.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import os
import pickletools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from trueline.errors import PackagingFailed
from trueline.settings import CACHEDIR_TAG

LOCK = "requirements.lock"
WORKER = Path(__file__).with_name("python_worker.py")
ALWAYS = ("msgspec", "numpy", "polars")  # of the worker itself
BUILD_SECONDS = 900.0
COMPLETE = "complete"
_PYTHON = re.compile(r"^# python (\d+\.\d+)$", re.MULTILINE)


def lock(pickled: bytes, code: Iterable[Path]) -> str:
    """The text of the lock for a pickle and the project's modules it reaches."""
    imported = {name.partition(".")[0] for name in modules_named(pickled)}
    for path in code:
        imported.update(_imports(path))
    found = _distributions()
    wanted = {name for module in imported for name in found.get(module, ())} | set(ALWAYS)
    lines = sorted(f"{name}=={version}" for name, version in _closure(wanted).items())
    return f"# python {sys.version_info.major}.{sys.version_info.minor}\n" + "".join(f"{line}\n" for line in lines)


def modules_named(pickled: bytes) -> set[str]:
    """The modules that unpickling imports, nested pickles' too (cloudpickle's are plain ones)."""
    texts: list[str] = []
    found: set[str] = set()
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            found.add(str(argument).partition(" ")[0])
        elif isinstance(argument, str):
            texts.append(argument)
    # STACK_GLOBAL takes its names from the stack, maybe by way of the memo: any text that is a loaded module may be one
    return found | {text for text in texts if text in sys.modules}


def interpreter(folder: Path) -> str:
    """The interpreter for a model folder: this one, or that of an environment that is built if need be.

    Raises:
        PackagingFailed: the environment cannot be built here.
    """
    text = (folder / LOCK).read_text()
    if not _lacking(text):
        return sys.executable
    place = _place(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
    python = place / "bin" / "python"
    if not (place / COMPLETE).exists():
        _build(place, folder / LOCK, text)
    return str(python)


def command(folder: Path, digest: str, *, with_parent: bool = True) -> Callable[[int], Sequence[str]]:
    """The command line of a model's process, given its end of the pipe; call off the event loop, for it may build an environment."""
    python = interpreter(folder)
    lives = "with-parent" if with_parent else "with-pipe"
    # -I: neither PYTHONPATH nor the working folder lend it modules that another machine would lack
    return lambda descriptor: (
        python, "-I", "-B", str(WORKER), str(descriptor), str(folder), digest, lives,
    )  # fmt: skip


def _lacking(text: str) -> list[str]:
    """What this process' environment has not, or in another version."""
    lacking = (
        [] if _python(text) == f"{sys.version_info.major}.{sys.version_info.minor}" else [f"python {_python(text)}"]
    )
    for line in text.splitlines():
        name, _, version = line.partition("==")
        if version and _version(name) != version:
            lacking.append(line)
    return lacking


def _build(place: Path, lock_file: Path, text: str) -> None:
    """With pip, under a lock, for several processes may want it at once; its configuration says where from."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if (place / COMPLETE).exists():
            return
        shutil.rmtree(place, ignore_errors=True)  # of a build that was killed
        try:
            _run([_base(text), "-m", "venv", str(place)])
            pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
            _run([*pip, "--quiet", "--no-deps", "--requirement", str(lock_file)])
        except (OSError, subprocess.SubprocessError) as problem:
            shutil.rmtree(place, ignore_errors=True)
            raise PackagingFailed(
                f"the environment of the model in {lock_file.parent} cannot be built ({_said(problem)}); it needs what "
                f"{lock_file} lists, and here differ: {', '.join(_lacking(text)[:5])}. Make them available to pip (an "
                "index, or wheels in a folder named by PIP_FIND_LINKS), or install them here"
            ) from problem
        (place / COMPLETE).touch()


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL)


def _said(problem: Exception) -> str:
    if isinstance(problem, subprocess.CalledProcessError):
        errors = [
            line for line in problem.stderr.splitlines() if line.startswith("ERROR")
        ] or problem.stderr.splitlines()
        return errors[-1][:300] if errors else f"exit code {problem.returncode}"
    return str(problem)


def _base(text: str) -> str:
    wanted = _python(text)
    if wanted == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(f"python{wanted}")
    if found is None:
        raise FileNotFoundError(f"there is no python{wanted} on the PATH")
    return found


def _python(text: str) -> str:
    found = _PYTHON.search(text)
    return found[1] if found else ""


def _place(folder: Path) -> Path:
    """In the state folder that the model lies in, else in the user's cache."""
    for parent in folder.resolve().parents:
        tag = parent / "CACHEDIR.TAG"
        if tag.is_file() and tag.read_text() == CACHEDIR_TAG:
            return parent / "environments"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "trueline" / "environments"


@cache
def _distributions() -> Mapping[str, Sequence[str]]:
    """Which distributions bring a module; it reads every one that is installed."""
    return metadata.packages_distributions()


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _closure(names: Iterable[str]) -> dict[str, str]:
    """Versions of distributions and all they need, as they are installed here."""
    found: dict[str, str] = {}
    waiting = [(name, frozenset[str]()) for name in names]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if (key, extras) in seen:
            continue
        seen.add((key, extras))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an optional part that is not here was not used here
        found[key] = distribution.version
        for line in distribution.requires or ():
            try:
                needed = Requirement(line)
            except InvalidRequirement:
                continue
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in (extras or {""})):
                waiting.append((needed.name, frozenset(needed.extras)))
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
