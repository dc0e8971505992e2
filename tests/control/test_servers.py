"""What model servers are told of versions, and what they tell of themselves."""

from trueline import catalogue
from trueline.audits import Note
from trueline.catalogue import Entry
from trueline.control import servers
from trueline.releases import delivery
from trueline.store import tables


def test_servers_learn_of_every_version_newest_first(store, trained, scene):
    first, second = trained(), trained()
    folder = scene.folder.create()
    delivery.reconcile(store, folder, "p")
    told = catalogue.read(folder.catalogue)
    assert [one.version for one in told] == [second, first]
    assert told[0].state == "candidate"
    assert told[0].path.startswith("runs/")
    assert told[0].path.endswith("/model")
    before = folder.catalogue.stat().st_ino
    delivery.reconcile(store, folder, "p")
    assert folder.catalogue.stat().st_ino == before, "the same is not written again"


def test_a_catalogue_that_was_cut_off_is_said_and_written_anew(store, trained, scene):
    number = trained()
    folder = scene.folder.create()
    folder.catalogue.write_text("[{")
    delivery.reconcile(store, folder, "p")
    (entry,) = catalogue.read(folder.catalogue)
    assert entry == Entry(number, entry.path, entry.digest, "candidate")


def test_a_note_that_comes_twice_is_one_event(store):
    note = Note("load", 3, "ann", "r0", 5)
    for names in (["a"], ["a", "b"], ["b"]):
        with store.begin() as tx:
            servers.import_notes(tx, "p", [(name, note) for name in names])
    with store.read() as tx:
        found = tx.execute(tables.events.select()).all()
    assert [(row.kind, row.ref, row.actor, row.detail) for row in found] == [
        ("version.load", "p/v3", "ann", {"server": "r0"})
    ] * 2
