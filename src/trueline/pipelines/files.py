"""The file forms of single values: Arrow for frames, npy for arrays, skops for everything else.

The bytes depend on the value alone. skops names the parts of an object by their place in memory and stamps its archive
with the time, so its files are written again with numbers in order and no time.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import skops.io

from trueline.errors import TrainingFailed
from trueline.packaging.native import ALLOWED
from trueline.pipelines.values import module_file

LONG_AGO = (1980, 1, 1, 0, 0, 0)
ADVICE = (
    "a step returns data frames, arrays, texts, numbers, lists, tuples and dicts of such, or an estimator of "
    "scikit-learn, XGBoost or LightGBM"
)


def form_of(value: Any) -> str:
    """By type; frames and arrays are known without importing what makes them."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if library in ("polars", "pandas") and kind.__name__ in ("DataFrame", "Series"):
        return f"{library}-{kind.__name__.lower()}"
    if library == "pyarrow" and kind.__name__ == "Table":
        return "arrow"
    if isinstance(value, np.generic):
        return "npy-scalar"
    return "npy" if kind is np.ndarray else "skops"


def write(form: str, value: Any, path: Path, project: Path, what: str) -> None:
    """One value, one file.

    Raises:
        TrainingFailed: the value cannot be kept in a file that executes nothing.
    """
    try:
        if form == "skops":
            _write_skops(value, path, project)
        elif form.startswith("npy"):
            with path.open("wb") as file:
                np.lib.format.write_array(file, np.asarray(value), allow_pickle=False)
        else:
            _write_frame(form, value, path)
    except TrainingFailed:
        raise
    except Exception as problem:  # skops and Arrow raise whatever the types inside a value raise
        raise TrainingFailed(
            f"{what} is a {_name(value)}, which cannot be kept ({_first(problem)}); {ADVICE}"
        ) from problem


def read(form: str, path: Path, project: Path) -> Any:
    """The inverse of `write`."""
    if form == "skops":
        trusted = skops.io.get_untrusted_types(file=path)
        _check(trusted, project)
        return skops.io.load(path, trusted=trusted)
    if form.startswith("npy"):
        with path.open("rb") as file:
            found = np.lib.format.read_array(file, allow_pickle=False)
        return found[()] if form == "npy-scalar" else found
    return _read_frame(form, path)


def _write_frame(form: str, value: Any, path: Path) -> None:
    if form == "polars-dataframe":
        value.rechunk().write_ipc(path)
    elif form == "polars-series":
        value.rechunk().to_frame().write_ipc(path)
    else:
        import pyarrow as pa  # noqa: PLC0415  only for who uses it

        table = (
            value
            if form == "arrow"
            else pa.Table.from_pandas(value if form == "pandas-dataframe" else value.to_frame(value.name or "0"))
        )
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as stream:
            stream.write_table(table.combine_chunks())


def _read_frame(form: str, path: Path) -> Any:
    if form.startswith("polars"):
        import polars as pl  # noqa: PLC0415  likewise

        frame = pl.read_ipc(path)
        return frame if form == "polars-dataframe" else frame.to_series()
    import pyarrow as pa  # noqa: PLC0415  likewise

    with pa.OSFile(str(path), "rb") as file:
        table = pa.ipc.open_file(file).read_all()
    if form == "arrow":
        return table
    return table.to_pandas() if form == "pandas-dataframe" else table.to_pandas().iloc[:, 0]


def _write_skops(value: Any, path: Path, project: Path) -> None:
    whole = _in_order(skops.io.dumps(value))
    needed = skops.io.get_untrusted_types(data=whole)
    _check(needed, project)
    skops.io.loads(whole, trusted=needed)  # what cannot be read back is told now, to the step that made it
    path.write_bytes(whole)


def _check(types: list[str], project: Path) -> None:
    """A type is built when a file is read: it must be a numerical library's, or the project's own code."""
    for name in types:
        file = module_file(name)
        own = file is not None and Path(file).is_relative_to(project) and ".venv" not in Path(file).parts
        if not name.startswith(ALLOWED) and not own:
            raise ValueError(f"it holds a {name}")


def _in_order(archive: bytes) -> bytes:
    """The same skops archive with its parts numbered by their first mention."""
    numbers: dict[str, int] = {}

    def renumber(node: Any) -> Any:
        if isinstance(node, list):
            return [renumber(one) for one in node]
        if not isinstance(node, dict):
            return node
        found: dict[str, Any] = {}
        for key, value in node.items():
            if key == "__id__" and isinstance(value, int):
                found[key] = numbers.setdefault(str(value), len(numbers))
            elif key == "file" and isinstance(value, str):
                found[key] = renamed(value)
            else:
                found[key] = renumber(value)
        return found

    def renamed(file: str) -> str:
        stem, dot, ending = file.partition(".")
        return f"{numbers.setdefault(stem, len(numbers))}{dot}{ending}"

    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        schema = json.dumps(renumber(json.loads(old.read("schema.json"))))
        parts = {renamed(name): old.read(name) for name in old.namelist() if name != "schema.json"}
        for name in sorted(parts):
            new.writestr(zipfile.ZipInfo(name, LONG_AGO), parts[name])
        new.writestr(zipfile.ZipInfo("schema.json", LONG_AGO), schema)
    return target.getvalue()


def _name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _first(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0][:200] if lines else type(problem).__name__
