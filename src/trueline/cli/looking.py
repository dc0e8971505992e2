"""What lies in a folder: data files, training functions, MLflow models. Reads, never imports, never writes."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueline.errors import InvalidData

if TYPE_CHECKING:
    import polars as pl

ROWS = 10_000
ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".pq")
DEEP = ("", "data", "datasets", "input")
"""Folders that are looked into: people keep their data there, and a walk of everything could take minutes."""

MODEL_DEEP = 3
FITTING = ("fit", "train", "train_model", "fit_model", "build_model")
ROW_NAMES = ("frame", "df", "data", "rows", "train", "train_df", "dataset", "table")


@dataclass(frozen=True)
class Function:
    """A function that looks as if it trained, or the reason why none does."""

    entry: str  # file.py:function
    line: int
    pipeline: bool = False


@dataclass(frozen=True)
class Script:
    """A Python file that trains where it stands, so that it cannot be called."""

    path: str
    line: int
    call: str


@dataclass(frozen=True)
class LoggedModel:
    """What an MLflow model's folder says of the data it was trained on."""

    path: str
    flavor: str
    inputs: tuple[str, ...]
    output: str | None  # the output column's name, if it has one
    classifies: bool | None  # None: the signature does not say
    requirements: tuple[str, ...]


def data_files(root: Path) -> list[str]:
    """The tables in the usual places, relative, by name."""
    found = []
    for folder in DEEP:
        place = root / folder
        if place.is_dir():
            found += [
                path for path in sorted(place.iterdir()) if path.name.lower().endswith(ENDINGS) and path.is_file()
            ]
    return [path.relative_to(root).as_posix() for path in found]


def sample(root: Path, source: str, rows: int = ROWS) -> pl.DataFrame:
    """The first rows of one file, in the types trueline reads them as.

    Raises:
        InvalidData: there is no such table, it cannot be read, has a column twice, or has no rows.
    """
    import polars as pl

    from trueline.data.sources import read_csv

    path = root / source
    if any(sign in source for sign in "*?["):
        place, pattern = (Path("/"), source.lstrip("/")) if source.startswith("/") else (root, source)
        path = next((one for one in sorted(place.glob(pattern)) if one.is_file()), path)
    if not path.is_file():
        raise InvalidData(f"there is no file {source}; --source takes a CSV or Parquet file")
    if not path.name.lower().endswith(ENDINGS):
        raise InvalidData(f"{source} is neither .csv nor .parquet, which are what trueline reads so far")
    try:
        if path.name.lower().endswith((".parquet", ".pq")):
            frame = pl.read_parquet(path, n_rows=rows, glob=False, hive_partitioning=False)
        else:
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
            frame = read_csv(path, name, rows=rows)
    except (pl.exceptions.PolarsError, OSError, UnicodeError) as problem:
        reason = str(problem).splitlines()[0]
        raise InvalidData(f"{source} cannot be read: {reason}") from problem
    if frame.is_empty():
        raise InvalidData(f"{source} has no rows: there is nothing to learn from")
    return frame


def functions(root: Path) -> tuple[list[Function], list[Script]]:
    """Training functions in the Python files of the folder and of `src`, and scripts that train where they stand."""
    found: list[Function] = []
    scripts: list[Script] = []
    for path in sorted([*root.glob("*.py"), *root.glob("src/*.py")]):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue
        name = path.relative_to(root).as_posix()
        some = [node for node in tree.body if isinstance(node, ast.FunctionDef) and _trains(node)]
        found += [Function(f"{name}:{node.name}", node.lineno, "pipeline" in _decorators(node)) for node in some]
        call = None if some else _fit_call(tree)
        if call is not None:
            scripts.append(Script(name, call.lineno, ast.unparse(call.func)))
    return found, scripts


def named_target(root: Path, entry: str) -> list[str]:
    """The columns that the training code seems to predict, the plainest sign first: TARGET = "price", y = rows["price"]."""
    path = root / entry.partition(":")[0]
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    constants, columns = [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name, value = node.targets[0].id.lower(), node.value
            if name in ("target", "label", "target_column", "label_column", "y_column") and isinstance(
                value, ast.Constant
            ):
                constants.append(str(value.value))
            if name in ("y", "target", "labels", "y_train"):
                columns += _column_of(value)
    return [*constants, *columns]


def _column_of(value: ast.expr) -> list[str]:
    """The column in `rows["price"]` or `rows.pop("price")`, with whatever is called on it afterwards."""
    inner: ast.AST = value
    while isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr != "pop":
        inner = inner.func.value
    if isinstance(inner, ast.Call):
        found: ast.AST | None = inner.args[0] if inner.args else None
    else:
        found = inner.slice if isinstance(inner, ast.Subscript) else None
    return [found.value] if isinstance(found, ast.Constant) and isinstance(found.value, str) else []


def _decorators(node: ast.FunctionDef) -> set[str]:
    """The last names of its decorators: `pipeline` for @trueline.pipeline."""
    plain = [one.func if isinstance(one, ast.Call) else one for one in node.decorator_list]
    return {one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "") for one in plain}


def _arguments(node: ast.FunctionDef) -> list[str]:
    return [one.arg for one in (*node.args.posonlyargs, *node.args.args)]


def _trains(node: ast.FunctionDef) -> bool:
    """A name that says so, one table first, and nothing else that has no default; and it returns something."""
    taken = _arguments(node)
    needed = len(taken) - len(node.args.defaults)
    marks = _decorators(node)
    if "step" in marks:
        return False
    named = (
        "pipeline" in marks
        or node.name in FITTING
        or (node.name.startswith(("fit_", "train_")) and taken[:1] and taken[0] in ROW_NAMES)
    )
    needless = all(default is not None for default in node.args.kw_defaults)
    returns = any(isinstance(inner, ast.Return) and inner.value is not None for inner in ast.walk(node))
    return bool(named) and needed == 1 and needless and returns


def _fit_call(tree: ast.Module) -> ast.Call | None:
    """The first `something.fit(…)` of a module that offers no function for it."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    fits = [node for node in calls if isinstance(node.func, ast.Attribute) and node.func.attr in ("fit", "train")]
    return min(fits, key=lambda node: node.lineno, default=None)


def logged_models(root: Path) -> list[LoggedModel]:
    """The MLflow models in the folder, not in those of tracking runs deep inside."""
    patterns = ["/".join([*["*"] * depth, "MLmodel"]) for depth in range(MODEL_DEEP + 1)]
    paths = sorted({path for pattern in patterns for path in root.glob(pattern)})
    return [model for path in paths if (model := logged_model(root, path)) is not None]


def logged_model(root: Path, path: Path) -> LoggedModel | None:
    """One MLmodel file; None when it is none."""
    import yaml

    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        flavors = said["flavors"]
        signature = said.get("signature") or {}
        inputs = json.loads(signature.get("inputs") or "[]")
        outputs = json.loads(signature.get("outputs") or "[]")
        names = tuple(str(one["name"]) for one in inputs if "name" in one)
        output = outputs[0] if len(outputs) == 1 else {}
        flavor = next((str(name) for name in flavors if name != "python_function"), "python_function")
        name = output.get("name")
        called, classifies = None if name is None else str(name), _classifies(output)
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    folder = path.parent.relative_to(root).as_posix()
    return LoggedModel(folder, flavor, names, called, classifies, _requirements(path.parent))


def _classifies(output: dict[str, Any]) -> bool | None:
    kind = output.get("type")
    if kind == "tensor":
        kind = output.get("tensor-spec", {}).get("dtype", "")
    if kind in ("boolean", "string", "object", "str", "bool"):
        return True
    return False if kind in ("double", "float", "float64", "float32") else None


def _requirements(folder: Path) -> tuple[str, ...]:
    try:
        lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
