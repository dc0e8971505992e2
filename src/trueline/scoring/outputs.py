"""Where scored rows go: a Parquet, CSV or JSON lines file or a Delta table, here or in a bucket, whole or not at all.

A file is written beside its place under another name and renamed when it is complete; one for a bucket is written here
and uploaded at the end, and is seen when the upload is done; a Delta table gets one commit. So a scoring that was killed leaves no output and is simply
started again; the draft it may leave is removed by the next one, which knows by its lock that nobody writes it any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from trueline.errors import Conflict, InvalidData, InvalidInput, Unavailable
from trueline.scoring import lines
from trueline.scoring.inputs import File, Local
from trueline.scoring.lines import AS_JSON
from trueline.storage.address import Service, is_s3, parse
from trueline.storage.places import PATIENCE
from trueline.storage.troubles import explain

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".tsv")
LINES = (".jsonl", ".ndjson")
FILES = (*PARQUET, *CSV, *LINES)


def check(output: str, source: str, files: Sequence[File], *, overwrite: bool) -> None:
    """Refuse an output that is the input, or is there already, or cannot be written to, before anything is scored."""
    if is_s3(output):
        _check_bucket(output, source, overwrite=overwrite)
        return
    path = Path(output.removeprefix("file://"))
    if not path.name:
        raise InvalidInput(
            f"--output {output!r} names no file; name one that ends in {', '.join(FILES)}, or a Delta table"
        )
    if _is_delta(output) and path.suffix:
        raise InvalidInput(f"{output} is none of {', '.join(FILES)}; a name without a suffix is a Delta table")
    here = path.absolute().resolve()
    taken = {one.path.absolute().resolve() for one in files if isinstance(one, Local)} | {
        Path(source).absolute().resolve()
    }
    if here in taken:
        raise InvalidInput(f"--input and --output are the same, {output}; write to another file")
    if not _is_delta(output) and Path(source).is_dir() and here.parent == Path(source).resolve():
        raise InvalidInput(f"{output} lies in the folder that is read, {source}; write to another folder")
    if not path.parent.is_dir():
        raise InvalidInput(f"there is no folder {path.parent} to write {path.name} to; make it, or correct --output")
    if path.is_dir() and not (path / "_delta_log").is_dir() and any(path.iterdir()):
        raise InvalidInput(f"{output} is a folder with other things in it; name a new one for the Delta table")
    if path.exists() and not overwrite and not (path.is_dir() and not any(path.iterdir())):
        raise Conflict(f"{output} is there already; name another file, or allow it to be replaced with --overwrite")


def write(output: str, tables: Iterable[pa.Table]) -> None:
    """Write all tables; when this raises, the output is what it was before."""
    tables = _alike(iter(tables))
    path = Path(output.removeprefix("file://"))
    if _is_delta(output):
        if is_s3(output) or (path / "_delta_log").is_dir():
            _delta(output, tables)
        else:
            with _told(output), _draft(path) as draft:
                _delta(str(draft), tables)
    elif is_s3(output):
        with tempfile.TemporaryDirectory(prefix="trueline-") as folder:
            whole = Path(folder) / path.name
            with _told(output):
                _fill(whole, tables)
            _upload(output, whole)
    else:
        with _told(output), _draft(path) as draft:
            _fill(draft, tables)


def _is_delta(output: str) -> bool:
    return not output.lower().endswith(FILES)


def _alike(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """All with the columns and types of the first; a sentence where a later file has others."""
    schema: pa.Schema | None = None
    for table in tables:
        if schema is None:
            schema = pa.schema([_settled(field) for field in table.schema])
        if set(table.column_names) != set(schema.names):
            odd = min(set(table.column_names) ^ set(schema.names))
            raise InvalidData(
                f"the files of the input do not all have the column '{odd}'; choose what to carry over with --columns"
            )
        try:
            yield table.select(schema.names).cast(schema)
        except (pa.ArrowException, ValueError) as problem:
            raise InvalidData(
                f"the files of the input differ in their types ({problem}); choose with --columns"
            ) from None


def _settled(field: pa.Field) -> pa.Field:
    """A column that is empty at first may hold anything later; text is what takes it."""
    kept = AS_JSON if field.metadata == AS_JSON else None
    plain = field.with_nullable(True).with_metadata(kept)
    return plain.with_type(pa.string()) if pa.types.is_null(field.type) else plain


def _fill(path: Path, tables: Iterable[pa.Table]) -> None:
    """The whole file, on the disk when this returns."""
    with path.open("wb") as file:
        if path.name.lower().endswith(PARQUET):
            _parquet(file, tables)
        elif path.name.lower().endswith(LINES):
            _lines(file, tables)
        else:
            _csv(file, tables, "\t" if ".tsv" in path.name.lower() else ",")
        file.flush()
        os.fsync(file.fileno())


def _parquet(file: IO[bytes], tables: Iterable[pa.Table]) -> None:
    with contextlib.ExitStack() as closing:
        writer: Any = None
        for table in tables:
            if writer is None:
                words = [field.name for field in table.schema if pa.types.is_string(field.type)]
                # a dictionary of measurements is as long as they are, and costs more than all the scoring
                writer = closing.enter_context(
                    pa.parquet.ParquetWriter(file, table.schema, compression="snappy", use_dictionary=words)
                )
            if table.num_rows:
                writer.write_table(table)


def _csv(file: IO[bytes], tables: Iterable[pa.Table], separator: str) -> None:
    for number, table in enumerate(tables):
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)  # noqa: S101  what a table becomes
        if nested := [name for name, dtype in frame.schema.items() if dtype.is_nested()]:
            raise InvalidInput(
                f"column '{nested[0]}' holds lists or objects, which CSV cannot; write Parquet, or use --columns"
            )
        frame.write_csv(file, include_header=number == 0, separator=separator)


def _lines(file: IO[bytes], tables: Iterable[pa.Table]) -> None:
    for table in tables:
        lines.write(file, table)


def _delta(output: str, tables: Iterator[pa.Table]) -> None:
    first = next(tables)
    failed: list[BaseException] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from first.to_batches()
            for table in tables:
                yield from table.to_batches()
        except BaseException as problem:
            failed.append(problem)  # the writer would tell it in words of its own
            raise

    uri, options = output.removeprefix("file://"), None
    if is_s3(output):
        address = parse(output, Service.of(), "--output")
        uri, options = address.url, address.delta_options(PATIENCE)
    reader = pa.RecordBatchReader.from_batches(first.schema, batches())
    try:
        write_deltalake(uri, reader, mode="overwrite", schema_mode="overwrite", storage_options=options)
    except (DeltaError, OSError, ValueError, pa.ArrowException) as problem:
        if failed:
            raise failed[0] from None
        raise InvalidData(f"the Delta table {output} cannot be written: {explain(problem)}") from problem


def _upload(output: str, path: Path) -> None:
    from trueline.storage.bucket import Bucket  # noqa: PLC0415 it brings PyArrow's client

    address = parse(output, Service.of(), "--output")
    Bucket(parse(f"s3://{address.bucket}", address.service), PATIENCE).put(address.prefix, path)


def _check_bucket(output: str, source: str, *, overwrite: bool) -> None:
    if output.rstrip("/") == source.rstrip("/"):
        raise InvalidInput(f"--input and --output are the same, {output}; write to another address")
    address = parse(output, Service.of(), "--output")
    if _is_delta(output):
        there = DeltaTable.is_deltatable(address.url, address.delta_options(PATIENCE))
    else:
        from trueline.storage.bucket import Bucket  # noqa: PLC0415 as above

        there = Bucket(parse(f"s3://{address.bucket}", address.service), PATIENCE).stamp(address.prefix) is not None
    if there and not overwrite:
        raise Conflict(f"{output} is there already; name another address, or allow it to be replaced with --overwrite")


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A file or folder of this process's own beside the place, put there at the end."""
    _sweep(path)
    draft = path.with_name(f".{path.stem}.{os.getpid()}.draft{path.suffix}")
    lock = draft.with_name(f"{draft.name}.lock")
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield draft
            draft.replace(path)
        finally:
            _remove(draft)
            lock.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sweep(path: Path) -> None:
    """Remove drafts of this output whose writers are dead."""
    for lock in path.parent.glob(f".{glob.escape(path.stem)}.*.draft{glob.escape(path.suffix)}.lock"):
        with contextlib.suppress(OSError), lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock.with_suffix(""))
            lock.unlink()


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft)
    else:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _told(output: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise Unavailable(
            f"{output} cannot be written ({problem.strerror or problem}); free some space or see to the folder"
        ) from problem
