"""`explain` says what is in force and who said so; `schema` says what may be said."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from trueline.projectfile.keys import walk

FILE = """\
version: 1
project: homes
data: {source: homes.csv, target: price}
train: model.py:fit
gates:
  quality: {by: 5%}
targets:
  prod:
    gates: {quality: {by: 3%}}
"""


@pytest.fixture(autouse=True)
def _homes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "trueline.yaml").write_text(FILE)
    (tmp_path / "homes.csv").write_text("area,price,sold\n1,2,yes\n2,4,no\n3,9,yes\n")


def test_one_key_says_its_value_its_place_its_default_and_what_it_is(trueline):
    assert trueline("explain", "gates.quality.by").out == (
        "gates.quality.by: 5%\n"
        "  from     trueline.yaml:6\n"
        "  default  2%\n"
        "  expects  a share, as 5% or 0.05\n"
        "  The largest tolerated loss against the champion, relative.\n"
    )
    assert "gates.quality.by: 3%\n  from     trueline.yaml:9 (target prod)\n" in (
        trueline("explain", "gates.quality.by", "--target", "prod").out
    )


def test_a_mapping_says_all_its_keys_and_no_key_says_everything(trueline):
    said = trueline("explain", "gates", "--json").json
    assert [one["key"] for one in said] == [place.dotted for place in walk() if place.dotted.startswith("gates.")]
    every = [one["key"] for one in trueline("explain", "--json").json]
    assert every[: len(list(walk()))] == [place.dotted for place in walk()]
    assert every[len(list(walk())) :] == [
        "TRUELINE_PROJECT",
        "TRUELINE_STATE",
        "TRUELINE_TARGET",
        "TRUELINE_URL",
        "TRUELINE_TOKEN",
        "NO_COLOR",
    ]
    assert "gates.quality.by" in trueline("explain").out


def test_what_the_data_says_is_told_as_the_datas(trueline, tmp_path):
    assert trueline("explain", "task").out.startswith(
        "task: regression\n  from     the data (price in homes.csv, 3 different values)\n"
    )
    path = tmp_path / "trueline.yaml"
    path.write_text(FILE.replace("target: price", "target: sold"))
    assert trueline("explain", "task", "--json").json[0]["value"] == "classification"
    path.write_text(FILE.replace("homes.csv", "none.csv"))
    assert trueline("explain", "task", "--json").json[0]["source"]["kind"] == "default"


def test_an_inferred_contract_is_said_to_be_one(trueline, tmp_path):
    assert "the first run infers it from the data and writes contract.yaml" in trueline("explain", "contract.infer").out
    (tmp_path / "contract.yaml").write_text("columns: {}\n")
    assert "contract.yaml was inferred from the data and holds now" in trueline("explain", "contract.infer").out


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("gates.qualty.by", "did you mean gates.quality.by?"),
        ("gats", "did you mean gates?"),
        ("holdot", "did you mean gates.holdout?"),
        ("TRUELINE_STAET", "did you mean TRUELINE_STATE?"),
        ("zzzzzz", "`trueline explain` lists all"),
    ],
)
def test_a_misspelt_key_is_told_the_nearest(key, said, trueline):
    found = trueline("explain", key)
    assert (found.code, said in found.err) == (2, True)


def test_a_wrong_file_or_target_is_the_same_sentence_as_everywhere(trueline, tmp_path):
    assert "has no target 'prd'; did you mean prod?" in trueline("explain", "-t", "prd").err
    (tmp_path / "trueline.yaml").write_text(FILE + "monitr: {}\n")
    found = trueline("explain", "task")
    assert (found.code, found.err) == (
        2,
        "trueline: trueline.yaml:10: monitr: there is no such key; did you mean monitor?\n",
    )


def test_the_schema_is_printed_for_editors_and_passes_the_project(trueline, tmp_path):
    (tmp_path / "trueline.yaml").unlink()
    schema = json.loads(trueline("schema").out)
    assert schema == trueline("schema", "--json").json
    jsonschema.validate(yaml.safe_load(FILE), schema, jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(FILE) | {"monitr": {}}, schema, jsonschema.Draft202012Validator)


def test_a_file_that_init_writes_passes_the_schema(trueline, tmp_path):
    (tmp_path / "trueline.yaml").unlink()
    assert trueline("init", "--target", "price").code == 0
    schema = trueline("schema", "--json").json
    jsonschema.validate(yaml.safe_load(Path("trueline.yaml").read_text()), schema, jsonschema.Draft202012Validator)
