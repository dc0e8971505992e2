"""`--sync`: nothing is acknowledged before the disk has it, and what the disk refuses is not."""

from __future__ import annotations

import os

import pytest

from trueline.errors import NotRecorded
from trueline.journal import segments
from trueline.journal.records import LabelRecord
from trueline.journal.segments import Writer

SYNC, FOLDER_SYNC = os.fdatasync, os.fsync


def label(number: int) -> LabelRecord:
    return LabelRecord(f"label-{number}", "p", 1.0, number, number, "test", None)


@pytest.fixture
def calls(monkeypatch):
    """What was asked of the disk, in order, with the length of the file at that moment."""
    seen: list[tuple[str, int]] = []

    def data(descriptor):
        seen.append(("data", os.fstat(descriptor).st_size))
        SYNC(descriptor)

    def folder(descriptor):
        seen.append(("folder", 0))
        FOLDER_SYNC(descriptor)

    monkeypatch.setattr("trueline.journal.segments.os.fdatasync", data)
    monkeypatch.setattr("trueline.journal.segments.os.fsync", folder)
    return seen


def test_each_batch_is_on_the_disk_when_its_append_returns_one_call_for_all_of_it(tmp_path, calls):
    with Writer(tmp_path, sync=True) as writer:
        assert calls == [("folder", 0)]
        for number in range(3):
            writer.append([label(number), label(number + 10)])
            assert calls[-1] == ("data", writer.bytes_written)
    assert [what for what, _ in calls] == ["folder", "data", "data", "data"]


def test_a_new_segment_is_in_its_folder_before_anything_in_it_is_acknowledged(tmp_path, calls):
    with Writer(tmp_path, sync=True, segment_bytes=100) as writer:
        writer.append([label(1)] * 2)
        writer.append([label(2)] * 2)
    assert [what for what, _ in calls] == ["folder", "data", "folder", "data"]
    assert segments.numbers(tmp_path) == [1, 2]


def test_without_it_the_disk_is_not_waited_for(tmp_path, calls):
    with Writer(tmp_path) as writer:
        writer.append([label(1)])
        writer.seal()
    assert calls == []


def test_what_the_disk_refuses_is_not_recorded_and_the_next_batch_may_be(tmp_path, monkeypatch):
    def fails(_):
        raise OSError(5, "Input/output error")

    with Writer(tmp_path, sync=True) as writer:
        writer.append([label(1)])
        with monkeypatch.context() as patch:
            patch.setattr("trueline.journal.segments.os.fdatasync", fails)
            with pytest.raises(NotRecorded, match="Input/output error") as refused:
                writer.append([label(2)])
        assert refused.value.kept == 0
        writer.append([label(3)])
    found = [record.label_id for record, _ in segments.read(tmp_path)]
    assert found[0] == "label-1"
    assert found[-1] == "label-3"
