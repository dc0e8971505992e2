"""The files of a Delta table as it is now, here or in a bucket; one version is read from start to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from trueline.errors import InvalidData, Unavailable
from trueline.storage.address import Service, is_s3, parse
from trueline.storage.places import PATIENCE
from trueline.storage.troubles import explain

ReadParquet = Callable[[Any, Sequence[str] | None], Iterator[tuple[pa.Table, float]]]


@dataclass(frozen=True)
class TableFile:
    """One Parquet file of the table; partition columns stand in its name, and columns that came later are null."""

    fragment: Any
    schema: pa.Schema
    name: str
    size: int
    read: ReadParquet

    def pieces(self, wanted: Sequence[str] | None) -> Iterator[tuple[pa.Table, float]]:
        fixed = pa.dataset.get_partition_keys(self.fragment.partition_expression)
        kept = [field for field in self.schema if wanted is None or field.name in set(wanted)]
        with self.fragment.filesystem.open_input_file(self.fragment.path) as file:
            for table, share in self.read(file, wanted):
                columns = [
                    table[field.name].cast(field.type)
                    if field.name in table.column_names
                    else pa.repeat(pa.scalar(fixed.get(field.name), field.type), table.num_rows)
                    for field in kept
                ]
                yield pa.table(columns, schema=pa.schema(kept)), share


def is_table(source: str) -> bool:
    """Whether a Delta table lies there; a bucket is asked only where the address is not that of a file."""
    if not is_s3(source):
        return (Path(source.removeprefix("file://")) / "_delta_log").is_dir()
    if any(sign in source for sign in "*?[") or "." in source.rstrip("/").rpartition("/")[2]:
        return False
    try:
        return DeltaTable.is_deltatable(*_place(source))
    except (DeltaError, OSError) as problem:
        raise Unavailable(f"{source} cannot be read: {explain(problem)}") from problem


def table_files(source: str, read: ReadParquet) -> Iterator[TableFile]:
    """The files of the newest version."""
    uri, options = _place(source)
    try:
        table = DeltaTable(uri, storage_options=options)
        dataset = table.to_pyarrow_dataset()
    except (DeltaError, OSError, ValueError) as problem:
        raise InvalidData(f"the Delta table {source} cannot be read: {explain(problem)}") from problem
    actions = pa.table(table.get_add_actions()).to_pydict()
    sizes: dict[str, int] = dict(zip(actions["path"], actions["size_bytes"], strict=True))
    found = False
    for fragment in dataset.get_fragments():
        found = True
        size = next((size for path, size in sizes.items() if fragment.path.endswith(path)), 1)
        yield TableFile(fragment, dataset.schema, f"{source} ({fragment.path.rpartition('/')[2]})", size, read)
    if not found:
        raise InvalidData(f"the Delta table {source} has no rows; there is nothing to score")


def _place(source: str) -> tuple[str, dict[str, str] | None]:
    if not is_s3(source):
        return source.removeprefix("file://"), None
    address = parse(source, Service.of(), "--input")
    return address.url, address.delta_options(PATIENCE)
