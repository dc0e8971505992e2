"""Folders under their digest: kept whole, brought back whole, whoever is killed in between."""

from __future__ import annotations

import hashlib

import pytest

from trueline.errors import InvalidData, NotFound, Unavailable
from trueline.settings import StateFolder
from trueline.storage import trees
from trueline.storage.places import open_storage


class Power(BaseException):
    """The process ends here."""


@pytest.fixture
def model(tmp_path):
    """A folder whose files sort otherwise as texts than as paths."""
    folder = tmp_path / "run" / "model"
    for name in ("trueline.json", "a.b", "a/b", "a/c/deep.onnx", "empty"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 1000 if name != "empty" else b"")
    return folder


def test_a_digest_says_every_name_and_content(model):
    before = trees.digest(model)
    (model / "empty").rename(model / "renamed")
    renamed = trees.digest(model)
    (model / "renamed").write_bytes(b"1")
    assert len({before, renamed, trees.digest(model)}) == 3


def test_a_digest_is_what_it_was_before_there_was_a_storage(tmp_path):
    (tmp_path / "a").write_bytes(b"xyz")
    assert trees.digest(tmp_path) == "sha256:" + hashlib.sha256(b"1:a 3:xyz").hexdigest()


def test_a_folder_that_is_kept_comes_back_the_same_elsewhere(objects, model, tmp_path):
    digest = trees.digest(model)
    trees.keep_tree(objects, model, digest)
    trees.keep_tree(objects, model, digest)
    trees.fetch_tree(objects, digest, tmp_path / "elsewhere" / "model")
    assert trees.digest(tmp_path / "elsewhere" / "model") == digest
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["model"]


@pytest.mark.parametrize("cut", range(5))
def test_an_upload_that_was_cut_off_cannot_be_fetched_and_is_gone_on_with(objects, model, tmp_path, monkeypatch, cut):
    digest, put, left = trees.digest(model), type(objects).put, [cut]

    def dying(self, key, source):
        if not left[0]:
            raise Power
        left[0] -= 1
        put(self, key, source)

    with monkeypatch.context() as patch:
        patch.setattr(type(objects), "put", dying)
        with pytest.raises(Power):
            trees.keep_tree(objects, model, digest)
    with pytest.raises((InvalidData, NotFound)):
        trees.fetch_tree(objects, digest, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    trees.keep_tree(objects, model, digest)
    trees.fetch_tree(objects, digest, tmp_path / "model")
    assert trees.digest(tmp_path / "model") == digest


def test_a_download_that_was_cut_off_leaves_nothing_that_could_be_taken_for_a_model(
    objects, model, tmp_path, monkeypatch
):
    digest, read, left = trees.digest(model), type(objects).read, [2]
    trees.keep_tree(objects, model, digest)

    def dying(self, key):
        if not left[0]:
            raise Power
        left[0] -= 1
        return read(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(type(objects), "read", dying)
        with pytest.raises(Power):
            trees.fetch_tree(objects, digest, tmp_path / "there" / "model")
    assert not (tmp_path / "there" / "model").exists()
    trees.fetch_tree(objects, digest, tmp_path / "there" / "model")
    assert trees.digest(tmp_path / "there" / "model") == digest


def test_tries_while_the_storage_is_away_fill_no_disk(objects, model, tmp_path, monkeypatch):
    digest, read, left = trees.digest(model), type(objects).read, [2]
    trees.keep_tree(objects, model, digest)

    def away(self, key):
        if not left[0]:
            raise Unavailable("it does not answer")
        left[0] -= 1
        return read(self, key)

    monkeypatch.setattr(type(objects), "read", away)
    with pytest.raises(Unavailable):
        trees.fetch_tree(objects, digest, tmp_path / "there" / "model")
    assert list((tmp_path / "there").iterdir()) == []


def test_what_was_changed_in_the_storage_is_refused_and_mended_by_keeping_it_again(objects, model, tmp_path):
    digest = trees.digest(model)
    trees.keep_tree(objects, model, digest)
    (key,) = (key for key in objects.list("models") if key.endswith("a/b"))
    objects.put(key, model / "empty")
    with pytest.raises(InvalidData, match="damaged or was changed"):
        trees.fetch_tree(objects, digest, tmp_path / "model")
    trees.keep_tree(objects, model, digest)
    trees.fetch_tree(objects, digest, tmp_path / "model")


def test_what_somebody_put_among_the_files_is_told(objects, model):
    digest = trees.digest(model)
    trees.keep_tree(objects, model, digest)
    objects.put(f"models/{digest.replace(':', '-')}/stranger", model / "empty")
    with pytest.raises(InvalidData, match="somebody else has changed it"):
        trees.keep_tree(objects, model, digest)


def test_a_folder_that_is_not_what_its_digest_says_is_not_kept(objects, model):
    digest = trees.digest(model)
    (model / "empty").write_bytes(b"1")
    with pytest.raises(InvalidData, match="expected sha256:"):
        trees.keep_tree(objects, model, digest)
    assert objects.list("") == {}


def test_a_model_that_was_never_kept_is_not_found(objects, tmp_path):
    with pytest.raises(NotFound, match="has no model with digest sha256:1"):
        trees.fetch_tree(objects, "sha256:1", tmp_path / "model")


def test_files_beside_a_model_come_back_by_name(objects, tmp_path):
    (tmp_path / "held_out.arrow").write_bytes(b"rows")
    trees.keep_beside(objects, "sha256:1", tmp_path / "held_out.arrow")
    assert trees.fetch_beside(objects, "sha256:1", tmp_path / "run" / "held_out.arrow")
    assert (tmp_path / "run" / "held_out.arrow").read_bytes() == b"rows"
    assert not trees.fetch_beside(objects, "sha256:2", tmp_path / "run2" / "held_out.arrow")
    assert not (tmp_path / "run2" / "held_out.arrow").exists()


def test_without_a_storage_nothing_is_copied(tmp_path):
    state = StateFolder(tmp_path)
    home = open_storage(None, state)
    assert home.objects is None
    assert home.table("labels").uri == str(state.table("labels"))
