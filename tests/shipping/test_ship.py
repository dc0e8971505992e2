"""Every record of a sealed segment is in its table exactly once, whatever goes wrong on the way."""

from __future__ import annotations

import threading

import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shipping_world import answer, expected, label, mixed, rows, shipped

from trueline.errors import InvalidData, Unavailable
from trueline.journal import segments
from trueline.journal.segments import Writer
from trueline.settings import StateFolder
from trueline.shipping import ship
from trueline.shipping.ship import Shipper


def write(state: StateFolder, numbers: range, replica: str = "r0") -> None:
    """A sealed segment for each number."""
    with Writer(state.journal(replica)) as writer:
        for number in numbers:
            writer.append(mixed(number))
            writer.seal()


def test_a_journal_that_never_was_ships_nothing(state) -> None:
    assert Shipper(state, "r0").ship_sealed() == 0
    assert shipped(state) == ([], [])


def test_sealed_segments_are_shipped_once_however_often_and_by_whom(state) -> None:
    write(state, range(1, 4))
    shipper = Shipper(state, "r0")
    assert shipper.ship_sealed() == 3
    assert shipper.ship_sealed() == 3
    assert Shipper(state, "r0").ship_sealed() == 3
    assert shipped(state) == expected(range(1, 4))


def test_the_open_segment_waits_and_so_does_its_torn_tail(state) -> None:
    write(state, range(1, 2))
    with Writer(state.journal("r0")) as writer:
        writer.append(mixed(2))
    with segments.path_of(state.journal("r0"), 2).open("ab") as file:
        file.write(b"\x40\x00\x00\x00torn")
    shipper = Shipper(state, "r0")
    assert shipper.ship_sealed() == 1
    assert shipped(state) == expected(range(1, 2))
    assert segments.seal(state.journal("r0")) == 2
    assert shipper.ship_sealed() == 2
    assert shipped(state) == expected(range(1, 3))


def test_what_several_segments_hold_is_one_commit(state) -> None:
    write(state, range(1, 6))
    Shipper(state, "r0").ship_sealed()
    assert DeltaTable(state.table("predictions")).version() == 1
    assert sorted(set(rows(state, "predictions")["segment"])) == [1, 2, 3, 4, 5]


def test_a_big_backlog_is_shipped_in_several_commits(state, monkeypatch) -> None:
    monkeypatch.setattr(ship, "BATCH_BYTES", 1)
    write(state, range(1, 4))
    Shipper(state, "r0").ship_sealed()
    assert DeltaTable(state.table("predictions")).version() == 3
    assert shipped(state) == expected(range(1, 4))


def test_replicas_do_not_know_of_each_other(state) -> None:
    write(state, range(1, 3), "r1")
    write(state, range(1, 2), "r2")
    assert Shipper(state, "r1").ship_sealed() == 2
    assert Shipper(state, "r2").ship_sealed() == 1
    assert rows(state, "labels").group_by("replica").len().sort("replica").rows() == [("r1", 2), ("r2", 1)]


def test_segments_without_labels_make_no_commit_and_hide_none_that_come_later(state) -> None:
    with Writer(state.journal("r0")) as writer:
        for request in ("a", "b"):
            writer.append([answer(request)])
            writer.seal()
        Shipper(state, "r0").ship_sealed()
        assert DeltaTable(state.table("labels")).version() == 0
        writer.append([label("l", "a-0")])
        writer.seal()
    Shipper(state, "r0").ship_sealed()
    assert rows(state, "labels")["label_id"].to_list() == ["l"]
    assert rows(state, "predictions").height == 4


def test_shipped_segments_are_deleted_only_as_far_as_they_were_read_and_shipped(state) -> None:
    write(state, range(1, 4))
    shipper = Shipper(state, "r0")
    assert shipper.delete_through(3) == []
    shipper.ship_sealed()
    assert shipper.delete_through(2) == [1, 2]
    assert segments.numbers(state.journal("r0")) == [3, 4]
    write(state, range(4, 6))
    assert shipper.ship_sealed() == 5
    assert Shipper(state, "r0").ship_sealed() == 5
    assert shipped(state) == expected(range(1, 6))


def test_a_damaged_segment_stops_shipping_and_loses_nothing_before_it_is_mended(state) -> None:
    write(state, range(1, 3))
    path = segments.path_of(state.journal("r0"), 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InvalidData, match="damaged"):
        Shipper(state, "r0").ship_sealed()
    assert shipped(state) == ([], [])
    path.write_bytes(whole)
    Shipper(state, "r0").ship_sealed()
    assert shipped(state) == expected(range(1, 3))


def test_a_journal_that_began_anew_is_refused_instead_of_silently_skipped(state) -> None:
    write(state, range(1, 4))
    Shipper(state, "r0").ship_sealed()
    for number in segments.numbers(state.journal("r0")):
        segments.path_of(state.journal("r0"), number).unlink()
    write(state, range(9, 10))
    with pytest.raises(InvalidData, match="another replica name"):
        Shipper(state, "r0").ship_sealed()


def test_a_table_that_cannot_be_written_says_so_and_is_written_later(state) -> None:
    write(state, range(1, 2))
    state.table("predictions").write_text("in the way")
    with pytest.raises(Unavailable, match="predictions"):
        Shipper(state, "r0").ship_sealed()
    state.table("predictions").unlink()
    Shipper(state, "r0").ship_sealed()
    assert shipped(state) == expected(range(1, 2))


def test_compaction_and_checkpoints_change_no_row_and_forget_no_progress(state, monkeypatch) -> None:
    monkeypatch.setattr(ship, "UPKEEP_COMMITS", 7)
    shipper = Shipper(state, "r0")
    for number in range(1, 25):
        write(state, range(number, number + 1))
        shipper.ship_sealed()
        shipper.delete_through(number)
    assert shipped(state) == expected(range(1, 25))
    assert DeltaTable(state.table("labels")).transaction_version("r0") == 24
    assert len(DeltaTable(state.table("labels")).file_uris()) < 24
    assert list((state.table("labels") / "_delta_log").glob("*.checkpoint.parquet"))


class Power(Exception):
    """The process ends here."""


class Saboteur:
    """Calls through, and cuts the power before or after the n-th call of all."""

    def __init__(self, cut: int, *, after: bool) -> None:
        self.calls = 0
        self.cut = cut
        self.after = after

    def around(self, function):
        def called(*args, **kwargs):
            self.calls += 1
            mine = self.calls == self.cut
            if mine and not self.after:
                raise Power
            result = function(*args, **kwargs)
            if mine:
                raise Power
            return result

        return called


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("cut", range(1, 18))
def test_a_shipper_that_ends_at_any_step_is_carried_on_by_the_next(state, monkeypatch, cut, after) -> None:
    monkeypatch.setattr(ship, "BATCH_BYTES", 1)
    write(state, range(1, 3))
    saboteur = Saboteur(cut, after=after)
    with monkeypatch.context() as patch:
        patch.setattr(ship, "write_deltalake", saboteur.around(ship.write_deltalake))
        patch.setattr(segments, "read_segment", saboteur.around(segments.read_segment))
        patch.setattr(ship.Target, "refresh", saboteur.around(ship.Target.refresh))
        patch.setattr(ship.Target, "_open", saboteur.around(ship.Target._open))
        try:
            Shipper(state, "r0").ship_sealed()
        except Power:
            assert saboteur.calls >= cut
        else:
            assert saboteur.calls < cut
    write(state, range(3, 4))
    shipper = Shipper(state, "r0")
    assert shipper.ship_sealed() == 3
    assert shipper.through == 3
    assert shipped(state) == expected(range(1, 4))


STEPS = st.lists(st.sampled_from(["write", "ship", "ship again", "delete", "new shipper", "cut"]), max_size=12)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, where=st.integers(1, 8), after=st.booleans())
def test_in_any_history_the_tables_hold_each_sealed_record_once(tmp_path_factory, steps, where, after) -> None:
    state = StateFolder(tmp_path_factory.mktemp("history"))
    shipper, written = Shipper(state, "r0"), 0
    with pytest.MonkeyPatch.context() as patch:
        for step in [*steps, "write", "ship"]:
            match step:
                case "write":
                    written += 1
                    write(state, range(written, written + 1))
                case "ship" | "ship again":
                    assert shipper.ship_sealed() == written
                    assert shipped(state) == expected(range(1, written + 1))
                case "delete":
                    shipper.delete_through(written)
                case "new shipper":
                    shipper = Shipper(state, "r0")
                case "cut":
                    with patch.context() as cut:
                        cut.setattr(ship, "write_deltalake", Saboteur(where, after=after).around(ship.write_deltalake))
                        try:
                            shipper.ship_sealed()
                        except Power:
                            shipper = Shipper(state, "r0")


def test_of_two_shippers_that_commit_the_same_segment_one_finds_it_done(state, monkeypatch, caplog) -> None:
    caplog.set_level("INFO", logger="trueline.shipping.ship")
    write(state, range(1, 2))
    Shipper(state, "r0").ship_sealed()
    write(state, range(2, 4))
    both = threading.Barrier(2, timeout=10)
    commit = ship.write_deltalake
    met = threading.local()

    def together(*args, **kwargs):
        if not getattr(met, "once", False):
            met.once = True
            both.wait()
        return commit(*args, **kwargs)

    monkeypatch.setattr(ship, "write_deltalake", together)
    _at_once([Shipper(state, "r0"), Shipper(state, "r0")])
    assert shipped(state) == expected(range(1, 4))
    assert "looking again" in caplog.text


def test_many_shippers_at_once_make_the_tables_and_ship_each_segment_once(state) -> None:
    write(state, range(1, 3))
    write(state, range(1, 3), "r1")
    _at_once([Shipper(state, replica) for replica in ("r0", "r1", "r0", "r1", "r0")])
    counted = rows(state, "labels").group_by("replica", "label_id").len()
    assert counted.height == 4
    assert counted["len"].to_list() == [1] * 4


def _at_once(shippers: list[Shipper]) -> None:
    problems: list[BaseException] = []

    def run(shipper: Shipper) -> None:
        try:
            shipper.ship_sealed()
        except BaseException as problem:  # noqa: BLE001  seen in the test
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(shipper,)) for shipper in shippers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not problems
