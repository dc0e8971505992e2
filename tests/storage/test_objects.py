"""What every object store must do, whichever it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from trueline.errors import NotFound
from trueline.storage.objects import CHUNK


def put(objects, tmp_path, key: str, data: bytes) -> None:
    source = tmp_path / "source"
    source.write_bytes(data)
    objects.put(key, source)


def get(objects, key: str) -> bytes:
    return b"".join(objects.read(key))


@pytest.mark.parametrize("data", [b"", b"abc", bytes(range(256)) * (CHUNK // 200)], ids=["empty", "small", "chunks"])
def test_what_was_put_is_read_back(objects, tmp_path, data):
    put(objects, tmp_path, "runs/run-1/some file.bin", data)
    assert get(objects, "runs/run-1/some file.bin") == data
    stamp = objects.stamp("runs/run-1/some file.bin")
    assert stamp.size == len(data)
    assert abs(stamp.changed_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_putting_again_replaces(objects, tmp_path):
    put(objects, tmp_path, "a", b"longer than the next")
    put(objects, tmp_path, "a", b"new")
    assert get(objects, "a") == b"new"
    assert list(objects.list("")) == ["a"]


def test_what_is_not_there_is_not_found(objects, tmp_path):
    put(objects, tmp_path, "a/b", b"1")
    for key in ("a/c", "a", "a/b/c"):
        assert objects.stamp(key) is None
        with pytest.raises(NotFound, match=f"no {key} in"):
            get(objects, key)


def test_a_listing_is_of_one_folder_and_all_below_it(objects, tmp_path):
    for key in ("a/1", "a/b/2", "ab/3", "c"):
        put(objects, tmp_path, key, key.encode())
    assert {key: stamp.size for key, stamp in objects.list("a").items()} == {"a/1": 3, "a/b/2": 5}
    assert list(objects.list("")) == ["a/1", "a/b/2", "ab/3", "c"]
    assert objects.list("nowhere") == {}
