"""Each value in force says where it came from."""

import pytest

from trueline.projectfile.provenance import Source, settings

FILE = """\
version: 1
project: flights
data: {source: a.csv, target: y}
train: model.py:fit
params:
  alpha: 1
  deep: {a: 1}
gates:
  quality: {by: 5%}
contract:
  personal:
    - tail
database: postgresql://ann:s3cret@db/flights
targets:
  prod:
    gates: {quality: {by: 3%}, approve: {by: [ann]}}
    params: {beta: 2}
    contract: {personal: null}
"""


@pytest.fixture
def found(tmp_path):
    path = tmp_path / "trueline.yaml"
    path.write_text(FILE)
    return lambda target=None: {one.key: one for one in settings(path, target)}


@pytest.mark.parametrize(
    ("key", "target", "value", "source"),
    [
        ("version", None, "1", Source("file", "trueline.yaml:1")),
        ("project", None, "flights", Source("file", "trueline.yaml:2")),
        ("data.time", None, "null", Source("default")),
        ("gates.quality.by", None, "5%", Source("file", "trueline.yaml:9")),
        ("gates.quality.by", "prod", "3%", Source("target", "trueline.yaml:16")),
        ("gates.approve.count", "prod", "1", Source("default")),
        ("contract.personal", None, "[tail]", Source("file", "trueline.yaml:11")),
        ("contract.personal", "prod", "[]", Source("default")),
        ("params.alpha", "prod", "1", Source("file", "trueline.yaml:6")),
        ("params.beta", "prod", "2", Source("target", "trueline.yaml:17")),
        ("params.deep", None, '{"a": 1}', Source("file", "trueline.yaml:7")),
        ("retrain.rehearse", None, "weekly", Source("default")),
        ("targets", None, "{prod: {}}", Source("file", "trueline.yaml:14")),
    ],
)
def test_a_value_says_who_gave_it(key, target, value, source, found):
    one = found(target)[key]
    assert (one.value, one.source) == (value, source)


def test_no_password_is_ever_shown(found):
    assert found()["database"].value == '"postgresql://ann:***@db/flights"'
    assert "s3cret" not in str(found())
