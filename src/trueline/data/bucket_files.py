"""Source files that lie in a bucket: `s3://bucket/path.parquet`, or several by `*` and `?` within a folder, `**` below."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trueline.errors import InvalidData, NotFound
from trueline.storage.address import Patience, Service, parse
from trueline.storage.bucket import Bucket
from trueline.storage.objects import Stamp

ATTEMPTS = Patience()
SETTLED = timedelta(seconds=10)
"""A listing tells whole seconds: an object that changed just now may change again without its stamp telling."""


def fetch(source: str, folder: Path) -> list[Path]:
    """The files of the source, brought to a folder under their own names; at least one."""
    bucket, found = find(source)
    return [bring(bucket, key, folder, source) for key in found]


def bring(bucket: Bucket, key: str, folder: Path, source: str) -> Path:
    """One object as a file of the folder, under its own name."""
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        try:
            file.writelines(bucket.read(key))
        except NotFound as problem:
            raise InvalidData(f"{key} of the source {source} went away while it was read; try again") from problem
    return path


def fingerprint(source: str) -> str | None:
    """What changes when the objects do, without reading them; None while they are too new to tell."""
    _, found = find(source)
    if max(stamp.changed_at for stamp in found.values()) > datetime.now(UTC) - SETTLED:
        return None
    told = "".join(f"{key}\0{one.size}\0{one.changed_at.isoformat()}\n" for key, one in found.items())
    return hashlib.sha256(told.encode()).hexdigest()


def find(source: str, key: str = "data.source") -> tuple[Bucket, dict[str, Stamp]]:
    """The bucket and the objects in it that the source names, at least one; `key` is where the source was said."""
    address = parse(source, Service.of(), key=key)
    bucket = Bucket(parse(f"s3://{address.bucket}", address.service), ATTEMPTS)
    pattern = address.prefix
    fixed = re.split(r"[*?]", pattern, maxsplit=1)[0]
    if fixed == pattern:
        stamp = bucket.stamp(pattern) if pattern else None
        found = {} if stamp is None else {pattern: stamp}
    else:
        matches = re.compile(_pattern(pattern)).fullmatch
        found = {key: one for key, one in bucket.list(fixed.rpartition("/")[0]).items() if matches(key)}
    if not found:
        raise InvalidData(f"the source {source} does not exist or matches nothing; correct `{key}`")
    return bucket, found


def _pattern(glob: str) -> str:
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(signs.get(part) or re.escape(part) for part in re.split(r"(\*\*/|\*\*|\*|\?)", glob))
