"""Where a project's tables, artefacts and shipped segments lie: the state folder, a shared folder, or a bucket."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trueline.errors import InvalidProject
from trueline.settings import StateFolder, shown
from trueline.storage.address import Patience, Service, is_s3, parse
from trueline.storage.objects import Folder, Objects

PATIENCE = Patience()


@dataclass(frozen=True)
class TablePlace:
    """Where a Delta table is, and what its writer (delta-rs) and its reader (Polars) need to get there."""

    uri: str
    name: str
    options: dict[str, str] | None = field(default=None, repr=False)
    reading: dict[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, place: Path | TablePlace) -> TablePlace:
        return place if isinstance(place, TablePlace) else cls(str(place), place.name)

    def __str__(self) -> str:
        return self.uri


@dataclass(frozen=True)
class Storage:
    """`objects` is None where everything simply stays in the state folder, and nothing is copied."""

    tables: str
    objects: Objects | None = None
    options: dict[str, str] | None = field(default=None, repr=False)
    reading: dict[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def home(cls, folder: StateFolder) -> Storage:
        return cls(str(folder.tables))

    def table(self, name: str) -> TablePlace:
        return TablePlace(f"{self.tables}/{name}", name, self.options, self.reading)


def open_storage(
    url: str | None,
    folder: StateFolder,
    *,
    service: Service | None = None,
    patience: Patience = PATIENCE,
) -> Storage:
    """What `storage` in the project file says, already resolved. Nothing is asked yet, so a bucket may be away.

    Raises:
        InvalidProject: it is neither an S3 URL nor a folder.
    """
    if url is None:
        return Storage.home(folder)
    if is_s3(url):
        from trueline.storage.bucket import Bucket  # noqa: PLC0415 it brings PyArrow, for buckets only

        address = parse(url, service or Service.of())
        return Storage(
            f"{address.url}/tables",
            Bucket(address, patience),
            address.delta_options(patience),
            address.polars_options(patience),
        )
    if "://" in url and not url.startswith("file://"):
        raise InvalidProject(f"storage is {shown(url)}; expected s3://bucket/prefix or a folder")
    shared = Path(url.removeprefix("file://")).resolve()
    return Storage(str(shared / "tables"), Folder(shared))
