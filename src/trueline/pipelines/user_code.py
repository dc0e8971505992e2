"""The user's `fit`: found, called, and judged; every way in which it can disappoint becomes one sentence.

The sentence names the line of *their* file where it happened; the whole traceback is in the run's log.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueline.errors import TrainingFailed
from trueline.userfiles import import_file

if TYPE_CHECKING:  # commands that only ask import this module, and steps that take no frame
    import polars as pl

PACKAGE = str(Path(__file__).parents[1])


def split_entry(entry: str) -> tuple[str, str]:
    """The file and the function of `module.py:function`."""
    file, _, function = entry.rpartition(":")
    if not file.endswith(".py") or not function.isidentifier():
        raise TrainingFailed(f"'{entry}' does not name a function; write it as model.py:fit")
    return file, function


def find(project: Path, entry: str) -> Callable[..., Any]:
    """Import the function from its file; the project's root and the file's folder are importable."""
    file, name = split_entry(entry)
    path = project / file
    if not path.is_file():
        raise TrainingFailed(f"{entry}: there is no file {file} in {project}; correct `train` in trueline.yaml")
    make_importable(project, entry)
    try:
        module = import_file(path, path.stem)
    except BaseException as problem:
        tell(problem)
        raise TrainingFailed(f"{where(problem, project, file)}: importing {file} raised {what(problem)}") from problem
    if module is None:
        raise TrainingFailed(f"{file} cannot be imported as Python")
    found = getattr(module, name, None)
    if not callable(found):
        raise TrainingFailed(f"{file} has no function '{name}'; correct `train` in trueline.yaml")
    return found  # type: ignore[no-any-return]


def make_importable(project: Path, entry: str) -> None:
    """The folder of the entry's file and the project's root are where its imports are looked for."""
    file, _ = split_entry(entry)
    for folder in (str((project / file).parent.absolute()), str(project.absolute())):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def fit(function: Callable[..., Any], frame: pl.DataFrame, params: Mapping[str, Any], project: Path, entry: str) -> Any:
    """Call it, and check that what it returns can be used at all."""
    check_parameters(function, params, entry)
    try:
        estimator = function(frame, **params)
    except BaseException as problem:
        tell(problem)
        line = where(problem, project, split_entry(entry)[0])
        raise TrainingFailed(f"{line}: {entry} raised {what(problem)}") from problem
    return usable(estimator, entry)


def usable(estimator: Any, entry: str) -> Any:
    """The estimator, if it looks like one that was fitted."""
    if estimator is None:
        raise TrainingFailed(f"{entry} returned nothing; return the fitted estimator")
    if isinstance(estimator, type):
        raise TrainingFailed(f"{entry} returned the class {estimator.__name__}; return a fitted estimator of it")
    if not (callable(getattr(estimator, "predict", None)) or callable(estimator)):
        raise TrainingFailed(
            f"{entry} returned a {type(estimator).__name__}, which has no predict and cannot be called; "
            "return the fitted estimator, or a function of a frame"
        )
    return estimator


def check_parameters(function: Callable[..., Any], params: Mapping[str, Any], entry: str) -> None:
    try:
        signature = inspect.signature(function)
        signature.bind(None, **params)
    except TypeError as problem:
        raise TrainingFailed(
            f"{entry} cannot be called as fit(frame, **params) with params {dict(params)}: {problem}; "
            "correct `params` in trueline.yaml or the function"
        ) from problem
    except ValueError:  # a callable that does not tell its signature
        return


def tell(problem: BaseException) -> None:
    """The traceback on standard error, which is the log; it begins where the user's code does."""
    told = traceback.TracebackException.from_exception(problem)
    seen: list[traceback.TracebackException | None] = [told]
    while seen and (one := seen.pop()) is not None:
        one.stack = traceback.StackSummary.from_list([frame for frame in one.stack if not _ours(frame.filename)])
        seen += [inner for inner in (one.__cause__, one.__context__) if inner is not None]
    print("".join(told.format()), end="", file=sys.stderr, flush=True)  # noqa: T201  the log


def _ours(filename: str) -> bool:
    """Frames that tell the user nothing: how trueline and the import system came to their code."""
    return filename.startswith((PACKAGE, "<frozen importlib"))


def where(problem: BaseException, project: Path, file: str) -> str:
    """The innermost line of the project's own code."""
    if isinstance(problem, SyntaxError) and problem.filename:
        return f"{relative(problem.filename, project) or file}:{problem.lineno}"
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        if (own := relative(frame.filename, project)) is not None:
            return f"{own}:{frame.lineno}"
    return file


def relative(filename: str, project: Path) -> str | None:
    try:
        path = Path(filename).absolute().relative_to(project.absolute())
    except ValueError:
        return None
    return None if ".venv" in path.parts or "site-packages" in path.parts else str(path)


def what(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {lines[0][:300]}" if lines else type(problem).__name__
