"""The journal's promise: what append() took is read back, whole, in order, whatever kills the writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueline.errors import Conflict, InvalidData, NotRecorded, Unavailable
from trueline.journal import records, segments
from trueline.journal.records import CrashRecord, LabelRecord, PredictionRecord, Record, ShadowRecord
from trueline.journal.segments import Cursor, Writer

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
BEGINNING = Cursor()
US = st.integers(0, 2**53)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | NUMBER | TEXT
OUTCOME = st.sampled_from(["answered", "failed", "timed_out", "invalid_output", "fell_back"])
OUTPUTS = st.none() | st.lists(NUMBER, max_size=3)

PREDICTIONS = st.builds(
    PredictionRecord,
    request_id=TEXT,
    event_us=US,
    received_us=US,
    model=TEXT,
    epoch=st.integers(0, 2**31),
    release=st.none() | TEXT,
    version=st.integers(0, 2**31),
    arm=st.sampled_from(["champion", "canary", "pinned"]),
    weight=st.floats(0, 1),
    unit=TEXT,
    outcome=OUTCOME,
    answered_by=st.none() | st.integers(0, 2**31),
    queue_us=US,
    exec_us=US,
    rows=st.integers(1, 1000),
    features=st.dictionaries(TEXT, st.lists(VALUE, max_size=3), max_size=4),
    outputs=OUTPUTS,
    error=st.none() | TEXT,
)
SHADOWS = st.builds(
    ShadowRecord,
    request_id=TEXT,
    event_us=US,
    received_us=US,
    version=st.integers(0, 2**31),
    release=st.none() | TEXT,
    outcome=OUTCOME,
    exec_us=US,
    rows=st.integers(1, 1000),
    outputs=OUTPUTS,
    error=st.none() | TEXT,
)
LABELS = st.builds(
    LabelRecord,
    label_id=TEXT,
    prediction_id=TEXT,
    value=st.none() | NUMBER,
    event_us=US,
    received_us=US,
    source=TEXT,
    revision=st.none() | st.integers(0, 2**62),
)
CRASHES = st.builds(CrashRecord, st.integers(0, 2**31), US, US, st.integers(0, 2**31), TEXT)
RECORDS: st.SearchStrategy[Record] = PREDICTIONS | SHADOWS | LABELS | CRASHES


def label(number: int) -> LabelRecord:
    return LabelRecord(f"label-{number}", f"prediction-{number}", float(number), number, number, "test", None)


def everything(folder: Path, cursor: Cursor = BEGINNING) -> list[Record]:
    return [record for record, _ in segments.read(folder, cursor)]


@given(RECORDS)
def test_a_record_is_decoded_as_it_was_encoded(record):
    assert records.decode(records.encode(record)) == record


@settings(max_examples=60)
@given(st.lists(st.lists(RECORDS, min_size=1, max_size=4), max_size=6), st.integers(64, 2000))
def test_batches_are_read_back_in_order_whatever_the_segment_size(batches, segment_bytes):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Writer(folder, segment_bytes=segment_bytes) as writer:
            for batch in batches:
                writer.append(batch)
        assert everything(folder) == [record for batch in batches for record in batch]


@settings(max_examples=60)
@given(st.lists(RECORDS, min_size=1, max_size=5), st.data())
def test_a_truncated_tail_costs_only_the_records_it_cuts(batch, data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ends = []
        with Writer(folder) as writer:
            for record in batch:
                writer.append([record])
                ends.append(writer.bytes_written)
        path = segments.path_of(folder, 1)
        cut = data.draw(st.integers(0, ends[-1]))
        os.truncate(path, cut)
        whole = [record for record, end in zip(batch, ends, strict=True) if end <= cut]
        assert everything(folder) == whole, "a reader stops before the torn record"
        with Writer(folder) as writer:
            writer.append([label(7)])
        assert everything(folder) == [*whole, label(7)], "the next writer goes on where the tail was torn"


@settings(max_examples=40)
@given(st.binary(min_size=1, max_size=200))
def test_garbage_at_the_tail_is_cut_off_by_the_next_writer(garbage):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Writer(folder) as writer:
            writer.append([label(1)])
        with segments.path_of(folder, 1).open("ab") as file:
            file.write(garbage)
        with Writer(folder) as writer:
            writer.append([label(2)])
        assert everything(folder) == [label(1), label(2)]


def test_a_tail_of_zeros_is_cut_off_too(tmp_path):
    with Writer(tmp_path) as writer:
        writer.append([label(1)])
    with segments.path_of(tmp_path, 1).open("ab") as file:
        file.write(bytes(4096))
    assert everything(tmp_path) == [label(1)]
    with Writer(tmp_path) as writer:
        assert writer.seal() == 1
    assert segments.read_segment(tmp_path, 1) == [label(1)]


def test_a_cursor_goes_on_after_the_record_it_came_with(tmp_path):
    with Writer(tmp_path, segment_bytes=150) as writer:
        for number in range(9):
            writer.append([label(number)])
        found = list(segments.read(tmp_path))
        for place, (_, cursor) in enumerate(found):
            assert everything(tmp_path, cursor) == [label(number) for number in range(place + 1, 9)]
        writer.append([label(9)])
        assert everything(tmp_path, found[-1][1]) == [label(9)]


def test_a_segment_is_sealed_when_a_higher_one_exists(tmp_path):
    with Writer(tmp_path) as writer:
        assert writer.seal() == 0, "an empty journal has nothing to seal"
        writer.append([label(1)])
        assert segments.sealed(tmp_path) == []
        assert writer.seal() == 1
        assert writer.seal() == 1, "sealing again seals nothing new"
        assert segments.sealed(tmp_path) == [1]
        assert segments.numbers(tmp_path) == [1, 2]
    assert segments.read_segment(tmp_path, 1) == [label(1)]
    assert segments.read_segment(tmp_path, 2) == []


def test_numbers_never_repeat_even_when_everything_sealed_was_deleted(tmp_path):
    with Writer(tmp_path) as writer:
        writer.append([label(1)])
        writer.seal()
    assert segments.delete_through(tmp_path, 99) == [1]
    with Writer(tmp_path) as writer:
        assert writer.segment == 2
        writer.append([label(2)])
        assert writer.seal() == 2
    assert segments.read_segment(tmp_path, 2) == [label(2)]


def test_a_journal_has_one_writer_and_another_is_told_so(tmp_path):
    with Writer(tmp_path), pytest.raises(Conflict, match="another process"):
        Writer(tmp_path)
    assert segments.seal(tmp_path) == 0


def test_a_journal_whose_writer_is_gone_can_be_sealed_by_another_process(tmp_path):
    with Writer(tmp_path) as writer:
        writer.append([label(1)])
    with segments.path_of(tmp_path, 1).open("ab") as file:
        file.write(b"\x99\x00\x00")
    assert segments.seal(tmp_path) == 1
    assert segments.read_segment(tmp_path, 1) == [label(1)]


def test_damage_in_a_sealed_segment_is_said_and_not_skipped(tmp_path):
    with Writer(tmp_path) as writer:
        writer.append([label(1)])
        writer.append([label(2)])
        writer.seal()
    path = segments.path_of(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InvalidData, match=r"000000000001\.seg is damaged at byte"):
        everything(tmp_path)


def test_a_record_of_an_unknown_kind_is_named_with_its_place(tmp_path):
    with Writer(tmp_path) as writer:
        writer.append([CrashRecord(1, 2, 3, 4, "known")])
    path = segments.path_of(tmp_path, 1)
    payload = records.encode(label(1)).replace(b"label", b"lapel", 1)
    path.write_bytes(segments.frame(payload))
    with pytest.raises(InvalidData, match="cannot read"):
        everything(tmp_path)


def test_a_full_disk_is_a_sentence_and_what_was_written_before_stays_readable(tmp_path, monkeypatch):
    real = os.write
    with Writer(tmp_path) as writer:
        writer.append([label(1)])

        def nearly_full(descriptor: int, data: bytes) -> int:
            if len(data) < 30:
                raise OSError(28, "No space left on device")
            return real(descriptor, data[:30])

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", nearly_full)
            with pytest.raises(Unavailable, match="free some disk space"):
                writer.append([label(2)])
        assert everything(tmp_path) == [label(1)]
        writer.append([label(3)])
        assert everything(tmp_path) == [label(1), label(3)]


@pytest.mark.parametrize("step", ["_open", "_recover", "_sync_folder"])
@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_writer_that_could_not_begin_leaves_the_journal_to_the_next_one(step, problem, tmp_path, monkeypatch):
    def fails(*_):
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(segments, step, fails)
        with pytest.raises((Unavailable, KeyboardInterrupt)):
            Writer(tmp_path, sync=True)
    Writer(tmp_path).close()


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot be written"):
        Writer(tmp_path / "file" / "journal")


WRITER = """
import sys
from pathlib import Path
from trueline.journal.records import LabelRecord
from trueline.journal.segments import Writer

writer = Writer(Path(sys.argv[1]), segment_bytes=2000)
number = int(sys.argv[2])
while True:
    batch = [LabelRecord(f"{n}", "p", None, 0, 0, "s", None) for n in range(number, number + 3)]
    writer.append(batch)
    number += 3
    print(number - 1, flush=True)
"""


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 60))
def test_a_writer_killed_at_any_moment_loses_nothing_it_acknowledged(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("journal")
    acknowledged = -1
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(acknowledged + 1)], stdout=subprocess.PIPE, text=True
        )
        with process:
            for _ in range(lines):
                acknowledged = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
        present = [int(record.label_id) for record in everything(folder)]
        assert len(set(present[: acknowledged + 1])) == acknowledged + 1
        assert present[: acknowledged + 1] == list(range(acknowledged + 1))
        acknowledged = max(present)  # a batch may be in the journal and its acknowledgement lost
    assert segments.seal(folder) >= 1


@pytest.mark.parametrize("value", [2**70, "\ud800", object()])
def test_a_record_that_cannot_be_encoded_is_not_recorded_and_the_next_one_is(tmp_path, value):
    good = LabelRecord("l", "p", 1.0, 1, 1, "s", None)
    with Writer(tmp_path) as writer:
        with pytest.raises(NotRecorded) as caught:
            writer.append([good, msgspec.structs.replace(good, revision=value)])
        assert caught.value.kept == 0
        writer.append([good])
    assert [record for record, _ in segments.read(tmp_path)] == [good]
