"""Damage: what a broken byte costs is what it is in, and what is said names the file and what to do."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueline.errors import InvalidData
from trueline.journal import records, segments
from trueline.journal.records import LabelRecord, PredictionRecord
from trueline.journal.segments import HEADER, Cursor, Writer
from trueline.shipping.__main__ import main as shipping


def label(number: int, text: str = "test") -> LabelRecord:
    return LabelRecord(f"label-{number}", f"prediction-{number}", float(number), number, number, text, None)


def written(folder: Path, count: int) -> list[int]:
    """A sealed segment of so many records; where each of them ends."""
    ends = []
    with Writer(folder) as writer:
        for number in range(count):
            writer.append([label(number)])
            ends.append(writer.bytes_written)
        writer.seal()
    return ends


def flip(path: Path, place: int, bits: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= bits
    path.write_bytes(content)


@settings(max_examples=300)
@given(st.integers(1, 6), st.data())
def test_a_flipped_bit_costs_the_record_it_is_in_and_no_other(count, data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ends = written(folder, count)
        path = segments.path_of(folder, 1)
        place = data.draw(st.integers(0, ends[-1] - 1))
        flip(path, place, 1 << data.draw(st.integers(0, 7)))
        hit = sum(end <= place for end in ends)
        seen = []
        with pytest.raises(InvalidData, match=r"000000000001\.seg is damaged at byte \d+ of \d+; put a copy"):
            seen.extend(record for record, _ in segments.read(folder))
        assert seen == [label(number) for number in range(hit)], "what is before it is read"
        mended = segments.mend(folder, 1)
        assert mended.records == count - 1
        assert segments.read_segment(folder, 1) == [label(number) for number in range(count) if number != hit]
        assert len(mended.copy.read_bytes()) == ends[-1]
        assert segments.mend(folder, 1) is None, "it is not damaged any more"


@settings(max_examples=200)
@given(
    st.integers(1, 5), st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=5), st.data()
)
def test_however_a_sealed_segment_was_damaged_it_is_readable_after_mending_and_no_record_is_made_up(count, flips, data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ends = written(folder, count)
        path = segments.path_of(folder, 1)
        for place, bits in flips:
            flip(path, place % ends[-1], bits)
        os.truncate(path, data.draw(st.integers(1, ends[-1])))
        segments.mend(folder, 1)
        kept = segments.read_segment(folder, 1)
        whole = [label(number) for number in range(count)]
        assert kept == [record for record in whole if record in kept]


@settings(max_examples=200)
@given(st.integers(1, 6), st.data())
def test_the_tail_of_an_open_segment_broken_in_any_way_gives_a_prefix_and_the_next_writer_goes_on(count, data):
    """What a death or a power cut leaves: a part of the last batch, some of its bytes not what was written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ends = [0]
        with Writer(folder) as writer:
            for number in range(count):
                writer.append([label(number)])
                ends.append(writer.bytes_written)
        path = segments.path_of(folder, 1)
        size = data.draw(st.integers(ends[-2], ends[-1] + 40))
        os.truncate(path, size)
        if size > ends[-2]:
            flip(path, data.draw(st.integers(ends[-2], size - 1)), data.draw(st.integers(1, 255)))
        seen = [record for record, _ in segments.read(folder)]
        assert seen == [label(number) for number in range(len(seen))]
        assert len(seen) == count - 1 or (len(seen) == count and size > ends[-1])
        with Writer(folder) as writer:
            writer.append([label(99)])
        assert [record for record, _ in segments.read(folder)] == [*seen, label(99)]


def test_a_server_that_starts_on_damage_before_whole_records_cuts_none_of_them_off(tmp_path):
    with Writer(tmp_path) as writer:
        for number in range(3):
            writer.append([label(number)])
    flip(segments.path_of(tmp_path, 1), HEADER.size + 3, 0xFF)
    with Writer(tmp_path) as writer:
        assert writer.segment == 2, "the damaged one is sealed as it is"
        writer.append([label(3)])
    with pytest.raises(InvalidData, match=r"000000000001\.seg is damaged at byte 0"):
        list(segments.read(tmp_path))
    assert segments.mend(tmp_path, 1).records == 2
    assert [record for record, _ in segments.read(tmp_path)] == [label(number) for number in (1, 2, 3)]


def test_cursors_that_readers_have_kept_stay_valid_when_a_segment_is_mended(tmp_path):
    ends = written(tmp_path, 4)
    flip(segments.path_of(tmp_path, 1), ends[1] + 20, 0x10)
    segments.mend(tmp_path, 1)
    assert [record for record, _ in segments.read(tmp_path, Cursor(1, ends[0]))] == [label(1), label(3)]
    assert [record for record, _ in segments.read(tmp_path, Cursor(1, ends[2]))] == [label(3)]


def test_what_a_caller_wrote_into_a_text_is_never_taken_for_a_record(tmp_path):
    """A record in a record: whoever looks for whole frames behind a broken one must not find it."""
    forged = segments.frame(records.encode(label(666)))
    features = {"x": [forged]}
    given = {
        "request_id": "r",
        "event_us": 1,
        "received_us": 1,
        "model": "m",
        "epoch": 1,
        "release": None,
        "version": 1,
    }
    given |= {"arm": "champion", "weight": 1.0, "unit": "u", "outcome": "answered", "answered_by": 1, "queue_us": 1}
    record = PredictionRecord(**given, exec_us=1, rows=1, features=features, outputs=[1.0], error=None)
    with Writer(tmp_path) as writer:
        writer.append([record])
        writer.append([label(1)])
        writer.seal()
    flip(segments.path_of(tmp_path, 1), HEADER.size + 2, 0xFF)
    assert segments.mend(tmp_path, 1).records == 1
    assert segments.read_segment(tmp_path, 1) == [label(1)]


def test_the_command_mends_what_is_damaged_and_says_what_was_lost(tmp_path, capsys):
    folder = tmp_path / "state" / "journal" / "r0"
    written(folder, 3)
    with Writer(folder) as writer:
        writer.append([label(3)])
        writer.seal()
    flip(segments.path_of(folder, 1), 30, 0x01)
    with pytest.raises(InvalidData) as said:
        list(segments.read(folder))
    command = str(said.value).partition("python -m trueline.shipping ")[2]
    assert shipping(command.split()) == 0
    assert "000000000001.seg: 2 records are kept" in capsys.readouterr().out
    assert shipping(command.split()) == 0
    assert "is damaged" in capsys.readouterr().out
    assert [record for record, _ in segments.read(folder)] == [label(number) for number in (1, 2, 3)]


def test_a_segment_is_sealed_before_it_would_exceed_its_size_and_a_larger_batch_has_one_for_itself(tmp_path):
    one = len(segments.frame(records.encode(label(0))))
    with Writer(tmp_path, segment_bytes=3 * one) as writer:
        for number in range(7):
            writer.append([label(number)])
        writer.append([label(number) for number in range(7, 9 + 1)] * 2)
        writer.append([label(0)])
    sizes = [segments.path_of(tmp_path, number).stat().st_size for number in segments.numbers(tmp_path)]
    assert sizes == [3 * one, 3 * one, one, 6 * one, one]
