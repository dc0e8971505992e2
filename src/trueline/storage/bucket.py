"""A prefix of an S3 bucket, through PyArrow's own client. The SDK under it retries, waiting longer each time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyarrow import fs

from trueline.errors import NotFound, Unavailable
from trueline.storage.address import Address, Patience
from trueline.storage.objects import CHUNK, Stamp
from trueline.storage.troubles import explain

FIRST_PAUSE = 0.1


class Bucket:
    """An S3 PUT is seen whole or not at all, and one that is repeated changes nothing."""

    def __init__(self, address: Address, patience: Patience) -> None:
        self._address = address
        self._attempts = patience.attempts
        service = address.service
        self._fs = fs.S3FileSystem(
            region=service.region,
            endpoint_override=service.host,
            scheme=service.scheme,
            connect_timeout=patience.connect_seconds,
            request_timeout=patience.request_seconds,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=patience.attempts),
            allow_delayed_open=True,  # a small object is one PUT, without a multipart upload around it
        )

    @property
    def shown(self) -> str:
        return self._address.url

    def put(self, key: str, source: Path) -> None:
        try:
            with source.open("rb") as file, self._fs.open_output_stream(self._path(key)) as stream:
                while part := file.read(CHUNK):
                    stream.write(part)
        except OSError as problem:
            raise self._unavailable("written", key, problem) from problem

    def read(self, key: str) -> Iterator[bytes]:
        done, failures = 0, 0
        while True:
            try:
                with self._fs.open_input_file(self._path(key)) as file:
                    file.seek(done)
                    while part := file.read(CHUNK):
                        done, failures = done + len(part), 0
                        yield part
                    return
            except FileNotFoundError as problem:
                raise NotFound(f"there is no {key} in {self.shown}") from problem
            except OSError as problem:
                failures += 1
                if failures >= self._attempts:
                    raise self._unavailable("read", key, problem) from problem
            time.sleep(FIRST_PAUSE * 2.0**failures)  # the SDK does not try a read again of which a part has come

    def stamp(self, key: str) -> Stamp | None:
        try:
            found = self._fs.get_file_info(self._path(key))
        except OSError as problem:
            raise self._unavailable("read", key, problem) from problem
        return _stamp(found) if found.type == fs.FileType.File else None

    def list(self, prefix: str) -> dict[str, Stamp]:
        base = self._path("")
        selector = fs.FileSelector(self._path(prefix), recursive=True, allow_not_found=True)
        try:
            found = self._fs.get_file_info(selector)
        except OSError as problem:
            raise self._unavailable("listed", prefix, problem) from problem
        files = [one for one in found if one.type == fs.FileType.File]
        return {one.path.removeprefix(base): _stamp(one) for one in sorted(files, key=lambda one: one.path)}

    def _path(self, key: str) -> str:
        return "/".join(part for part in (self._address.bucket, self._address.prefix) if part) + f"/{key}"

    def _unavailable(self, done: str, key: str, problem: OSError) -> Unavailable:
        return Unavailable(f"{key} in {self.shown} cannot be {done}: {explain(problem)}")


def _stamp(found: Any) -> Stamp:
    return Stamp(found.size, found.mtime or datetime.fromtimestamp(0, UTC))
