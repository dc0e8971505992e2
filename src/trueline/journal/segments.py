"""Append-only segment files: `<folder>/<n:012d>.seg`, each a sequence of frames [u32 length][u32 crc32][payload].

Theory of operation. The writer holds an exclusive `flock` on `<folder>/lock` while it lives; the kernel lets go of it
with the process. It appends to the highest-numbered segment with one `write()` per batch; when that returns, the
records survive the death of the process. A segment is *sealed* when a higher one exists: sealing creates that next,
empty file, so the highest segment is always the open one, is never deleted, and numbers never repeat.

A crash can tear only the tail of the highest segment; the next writer cuts it back to the last whole frame. A whole
frame never disappears once it is in the file, not even when the rest of its batch did not fit on the disk, so a
`Cursor` a reader has kept stays valid. A reader takes a torn tail of the highest segment as "not yet written"; in a
sealed segment it is damage and says so. A broken frame with a whole one behind it was not torn but damaged: a writer
that finds one at its start cuts nothing off and seals the segment instead.

Damage stops whoever reads, until a person puts a copy in the file's place or has it mended (`mend`): then the broken
bytes become a *gap*, a header that says how many bytes to pass over, and everything else stays where it is.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from trueline.errors import Conflict, InvalidData, NotRecorded, Unavailable
from trueline.journal import records
from trueline.journal.records import Record

HEADER = struct.Struct("<II")
GAP = 1 << 31
"""Of a header's length: what follows is not a record, and passed over. A record is far shorter than 2 GiB."""
SEGMENT_BYTES = 16 * 1024 * 1024
_LOCK_POLL = 0.02


@dataclass(frozen=True, order=True)
class Cursor:
    """A position between two records: everything before it has been read. `Cursor(0, 0)` is the beginning."""

    segment: int = 0
    offset: int = 0


def path_of(folder: Path, number: int) -> Path:
    return folder / f"{number:012d}.seg"


def numbers(folder: Path) -> list[int]:
    """The segments there are, ascending; the last one is open, all others are sealed."""
    return sorted(int(path.stem) for path in folder.glob("*.seg") if path.stem.isdecimal())


def sealed(folder: Path) -> list[int]:
    return numbers(folder)[:-1]


def read(folder: Path, cursor: Cursor = Cursor(), *, through: int | None = None) -> Iterator[tuple[Record, Cursor]]:
    """The records after `cursor` with the cursor that follows each, up to segment `through` or what is written now."""
    present = numbers(folder)  # before any file is opened: what is sealed by now is whole when it is read
    for number in present:
        if number < cursor.segment or (through is not None and number > through):
            continue
        start = cursor.offset if number == cursor.segment else 0
        yield from _read_segment(folder, number, start, whole=number != present[-1])


def read_segment(folder: Path, number: int) -> list[Record]:
    """All records of one segment; InvalidData when it is sealed and damaged."""
    whole = number != numbers(folder)[-1]
    return [record for record, _ in _read_segment(folder, number, 0, whole=whole)]


def delete_through(folder: Path, number: int) -> list[int]:
    """Delete the sealed segments up to `number`; the open one stays, whatever its number."""
    gone = [one for one in sealed(folder) if one <= number]
    for one in gone:
        path_of(folder, one).unlink(missing_ok=True)
    return gone


@dataclass(frozen=True)
class Mended:
    """A segment that can be read again: what is left of it, what is not, and where it lies as it was."""

    records: int
    bytes_lost: int
    copy: Path


def mend(folder: Path, number: int) -> Mended | None:
    """Have a damaged sealed segment read as what is whole in it; None when it is not damaged.

    Records stay at their places, so cursors stay valid. The file as it was is kept beside it first.
    """
    path = path_of(folder, number)
    data = path.read_bytes()
    kept, gaps = 0, []
    place = 0
    while place < len(data):
        payload, following = _frame_at(data, place)
        if following == place:
            following = _next_whole(data, place)
            gaps.append((place, following))
        elif payload is not None:
            kept += 1
        place = following
    if not gaps:
        return None
    copy = _keep_copy(path, data)
    with path.open("r+b") as file:
        for start, end in gaps:
            _write_gap(file, start, end, len(data))
        file.flush()
        os.fsync(file.fileno())
    return Mended(kept, sum(end - start for start, end in gaps), copy)


def seal(folder: Path) -> int:
    """Seal a journal that has no writer and return the highest sealed segment (0: none); Conflict when it has one."""
    with Writer(folder) as writer:
        return writer.seal()


class Writer:
    """The one process that appends to a journal folder.

    Raises Conflict when another process holds the folder for longer than `wait` seconds, and Unavailable when it
    cannot be written. With `sync`, each append is on the disk before it returns, at the disk's price.
    """

    def __init__(
        self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, wait: float = 0.0, sync: bool = False
    ) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.sync = sync
        self.bytes_written = 0
        self._torn = False
        self._lock = self._file = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder, wait)
            self._take_up()
        except OSError as problem:
            self.close()  # whoever comes next, in this process or another, shall not find it locked
            raise Unavailable(f"the journal {folder} cannot be written: {problem.strerror or problem}") from problem
        except BaseException:
            self.close()
            raise

    def _take_up(self) -> None:
        """Go on where the writer before this one stopped."""
        self.segment = max(numbers(self.folder), default=1)
        self._file = _open(path_of(self.folder, self.segment))
        self._offset = _recover(self._file)
        if self._offset < 0:  # whole records lie behind broken ones
            self._offset = os.fstat(self._file).st_size
            self.seal()
        if self.sync:
            _sync_folder(self.folder)

    @property
    def position(self) -> str:
        """Where the next record goes: of two starts that wrote anything never the same, whatever the clock says."""
        return f".{self.segment:x}.{self._offset:x}"

    def append(self, batch: Sequence[Record]) -> None:
        """Write the records with one `write()`; when this returns they survive the death of the process.

        Raises NotRecorded when the disk does not take them all; the first ones may be in the journal, and then stay.
        """
        self._mend()
        encode = records.encoder.encode
        pack, checksum = HEADER.pack, zlib.crc32
        try:
            payloads = [encode(record) for record in batch]
            frames = [pack(len(payload), checksum(payload)) + payload for payload in payloads]
        except (TypeError, ValueError, OverflowError) as problem:  # checks let it pass: those who wait are answered
            raise NotRecorded(f"a record for {self.folder} holds what msgpack cannot ({problem})", kept=0) from problem
        data = b"".join(frames)
        if self._offset and self._offset + len(data) > self.segment_bytes:
            with suppress(Unavailable):  # no room for another file: this one may have some
                self.seal()
        try:
            written = os.write(self._file, data)
            while written < len(data):  # interrupted, or the disk is nearly full: the next write says which
                written += os.write(self._file, data[written:])
        except OSError as problem:
            raise self._refused(problem, self._cut(frames)) from problem
        self._offset += len(data)
        self.bytes_written += len(data)
        if self.sync:
            try:
                os.fdatasync(self._file)
            except OSError as problem:
                raise self._refused(problem, 0) from problem

    def seal(self) -> int:
        """Close the open segment, if anything is in it, and return the highest sealed segment (0: none)."""
        self._mend()
        if self._offset:
            try:
                following = _open(path_of(self.folder, self.segment + 1))
                if self.sync:  # else a power cut may take the whole file back, whatever of it is on the disk
                    _sync_folder(self.folder)
            except OSError as problem:
                raise Unavailable(
                    f"the journal {self.folder} cannot start a segment: {problem.strerror or problem}"
                ) from problem
            os.close(self._file)
            self._file, self._offset = following, 0
            self.segment += 1
        return self.segment - 1

    def _cut(self, frames: Sequence[bytes]) -> int:
        """After a write that failed: cut the torn frame off; how many whole ones of the batch are in."""
        before, self._torn = self._offset, True
        try:
            self._mend()
        except NotRecorded:
            return 0  # not even that could be done: it is tried again before anything else is
        return sum(before + size <= self._offset for size in accumulate(map(len, frames)))

    def _mend(self) -> None:
        """Go on behind the last whole frame, where a write that failed has left a torn one."""
        if not self._torn:
            return
        try:
            end = _recover(self._file, self._offset)
        except OSError as problem:
            raise self._refused(problem, 0) from problem
        self.bytes_written += end - self._offset
        self._offset, self._torn = end, False

    def _refused(self, problem: OSError, kept: int) -> NotRecorded:
        why = problem.strerror or problem
        return NotRecorded(f"the journal {self.folder} cannot be written ({why}); free some disk space", kept=kept)

    def close(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def frame(payload: bytes) -> bytes:
    return HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(folder: Path, wait: float) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise Conflict(f"the journal {folder} is being written by another process; stop it first") from None
            time.sleep(_LOCK_POLL)
        else:
            return descriptor


def _recover(descriptor: int, start: int = 0) -> int:
    """Cut a torn tail off and return the length that is left; up to `start` the segment is known to be whole.

    -1 when that would cut off a whole record: what is broken before it was not torn but damaged.
    """
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, size - start, start) if size > start else b""
    end = 0
    for _, end in _frames(data, 0):  # noqa: B007  only the last one counts
        pass
    if start + end < size:
        if _behind(data, end) is not None:
            return -1
        os.ftruncate(descriptor, start + end)
    return start + end


def _frames(data: bytes, start: int) -> Iterator[tuple[memoryview, int]]:
    """The whole frames from `start` as (payload, offset after it); stops at the first that is not."""
    while True:
        payload, end = _frame_at(data, start)
        if end == start:
            return
        if payload is not None:
            yield payload, end
        start = end


def _frame_at(data: bytes, start: int) -> tuple[memoryview | None, int]:
    """The payload there, None for a gap, and the offset after it: `start` itself when nothing whole is there."""
    if start + HEADER.size > len(data):
        return None, start
    length, checksum = HEADER.unpack_from(data, start)
    gap, length = length & GAP, length & ~GAP
    payload = memoryview(data)[start + HEADER.size : start + HEADER.size + length]
    if gap:
        whole = len(payload) == length and checksum == ~length & 0xFFFFFFFF
        return None, start + HEADER.size + length if whole else start
    # an all-zero tail (a file grown by a file system after power loss) has length 0 and a matching crc
    if length == 0 or len(payload) < length or zlib.crc32(payload) != checksum:
        return None, start
    return payload, start + HEADER.size + length


def _behind(data: bytes, broken: int) -> int | None:
    """Where the frame behind a broken one begins, if the broken one's length can be believed: a whole one is there.

    Nothing is looked for inside of it: what a caller wrote into a text must not pass for a record of ours.
    """
    if broken + HEADER.size > len(data):
        return None
    length, _ = HEADER.unpack_from(data, broken)
    place = broken + HEADER.size + (length & ~GAP)
    return place if length and _frame_at(data, place)[1] > place else None


def _next_whole(data: bytes, broken: int) -> int:
    """Where the next whole frame begins, or the end."""
    place = _behind(data, broken)
    if place is not None:
        return place
    for candidate in range(broken + 1, len(data) - HEADER.size):
        payload, _ = _frame_at(data, candidate)
        if payload is not None:
            with suppress(msgspec.DecodeError):
                records.decode(payload)
                return candidate
    return len(data)


def _write_gap(file: BinaryIO, start: int, end: int, size: int) -> None:
    """Have the bytes passed over; too few for a header are the last ones, and go."""
    length = end - start - HEADER.size
    if length < 0 or end == size:
        file.truncate(start)
        return
    file.seek(start)
    file.write(HEADER.pack(GAP | length, ~length & 0xFFFFFFFF))


def _keep_copy(path: Path, data: bytes) -> Path:
    """The damaged file as it was, on the disk before anything of it is changed."""
    copy = path.with_name(f"{path.name}.damaged")
    with copy.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return copy


def _read_segment(folder: Path, number: int, start: int, *, whole: bool) -> Iterator[tuple[Record, Cursor]]:
    path = path_of(folder, number)
    with path.open("rb") as file:  # only what is new: a reader that follows the tail comes back many times
        file.seek(start)
        data = file.read()
    end = 0
    for payload, end in _frames(data, 0):
        try:
            record = records.decode(payload)
        except msgspec.DecodeError as problem:
            raise InvalidData(
                f"{path} holds a record before byte {start + end} that this trueline cannot read: {problem}"
            ) from problem
        yield record, Cursor(number, start + end)
    if whole and end != len(data):
        command = f"python -m trueline.shipping --mend --state {folder.parent.parent} --replica {folder.name}"
        raise InvalidData(
            f"{path} is damaged at byte {start + end} of {start + len(data)}; put a copy of the file in its place, or keep "
            f"what is whole in it and go on: {command}"
        )
