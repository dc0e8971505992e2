"""A model folder that is not what was packaged is told in one sentence; nothing else is ever taken for the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from damage import another_page, damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from trueline.errors import PackagingFailed
from trueline.packaging import manifest
from trueline.packaging.executors import load
from trueline.packaging.parity import as_columns

NUMBERS = ["distance", "wait", "hour"]
ONE_FOLDER = [HealthCheck.function_scoped_fixture]  # each example puts back what it changed


@pytest.fixture
def packaged(rows: Any, pack: Any) -> Any:
    return pack(LinearRegression().fit(rows.frame[NUMBERS], rows.minutes))


def refused(folder: Path, digest: str | None) -> str:
    with pytest.raises(PackagingFailed) as problem:
        load(folder, digest)
    said = str(problem.value)
    assert str(folder) in said
    assert "package the model again" in said
    assert "\n" not in said
    return said


@settings(max_examples=60, suppress_health_check=ONE_FOLDER)
@given(data=st.data())
def test_any_damage_to_any_file_is_noticed(packaged: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(packaged.folder.iterdir())), "file")
    before = path.read_bytes()
    path.write_bytes(data.draw(damaged(before), "content"))
    try:
        said = refused(packaged.folder, packaged.digest)
        if path.name == manifest.file_of(packaged.kind):  # also where no registered digest is at hand
            assert "digest" in said
            assert "is damaged or another model's" in refused(packaged.folder, None)
    finally:
        path.write_bytes(before)


@settings(max_examples=200, suppress_health_check=ONE_FOLDER)
@given(data=st.data())
def test_a_changed_manifest_is_refused_or_changes_no_answer(rows: Any, packaged: Any, data: st.DataObject) -> None:
    path = packaged.folder / manifest.NAME
    before = path.read_bytes()
    columns = as_columns(rows.frame.head(20))
    expected = load(packaged.folder, packaged.digest).predict(columns).tolist()
    path.write_text(json.dumps(data.draw(another_page(json.loads(before)), "page")))
    executor, said = None, ""
    try:
        executor = load(packaged.folder, None)
    except PackagingFailed as problem:
        said = str(problem)
    finally:
        path.write_bytes(before)
    if executor is None:
        assert str(packaged.folder) in said
        assert "\n" not in said
    elif set(executor.signature.names) <= columns.keys():  # else whoever asks is told what is missing
        assert executor.predict(columns).tolist() == expected


def test_files_of_two_packages_do_not_mix(rows: Any, pack: Any, tmp_path: Path) -> None:
    one, other = (
        pack(LinearRegression().fit(rows.frame[NUMBERS], rows.minutes * times), folder=tmp_path / f"model-{times}")
        for times in (1, 2)
    )
    for name in ("model.onnx", manifest.NAME):
        mixed = shutil.copytree(one.folder, tmp_path / f"mixed-{name}")
        shutil.copyfile(other.folder / name, mixed / name)
        assert "is damaged or another model's" in refused(mixed, None)
        for digest in (one.digest, other.digest):
            assert "is not the one that was registered" in refused(mixed, digest)


def test_a_file_that_is_missing_is_named(packaged: Any) -> None:
    (packaged.folder / "model.onnx").unlink()
    assert "model.onnx cannot be read (No such file or directory)" in refused(packaged.folder, None)


@pytest.mark.parametrize("change", [{"precision": "float64"}, {"layout": "columns"}])
def test_a_manifest_of_another_graph_is_refused(packaged: Any, change: dict[str, Any]) -> None:
    path = packaged.folder / manifest.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert "they disagree about its inputs" in refused(packaged.folder, None)


def test_a_folder_packaged_before_files_were_noted_still_loads(packaged: Any) -> None:
    path = packaged.folder / manifest.NAME
    page = json.loads(path.read_text())
    del page["files"]
    path.write_text(json.dumps(page))
    assert load(packaged.folder, None).kind == packaged.kind
