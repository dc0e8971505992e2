"""Targets: what an environment changes is laid over the rest, and what is wrong there is told where it stands."""

from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trueline import projectfile
from trueline.domain.project import Approve, Engines
from trueline.errors import InvalidProject
from trueline.projectfile.nodes import compose, lay_over

FILE = """\
version: 1
project: flights
data: {source: january.parquet, target: air_time, time: scheduled, entity: flight_id}
train: model.py:fit
params: {alpha: 1, deep: {a: 1, b: 2}}
contract: {personal: [tail]}
gates:
  quality: {by: 5%, confidence: 0.9}
  holdout: 3d
tracking: https://ml.acme
targets:
  dev:
  staging:
    gates: {quality: {by: 3%}}
  prod:
    database: env:DATABASE_URL
    storage: s3://bucket/trueline
    tracking: null
    data: {source: "s3://bucket/*.parquet"}
    params: {deep: {b: null, c: 3}}
    contract: {personal: []}
    gates:
      quality:
        by: null
      approve: {by: [ann, bob]}
"""


def prod(extra=""):
    return projectfile.parse(FILE + extra, target="prod")


def test_without_a_target_the_overlays_are_names_alone():
    project = projectfile.parse(FILE)
    assert (project.target, project.targets) == (None, ("dev", "staging", "prod"))
    assert project.engines == Engines(None, "https://ml.acme", None)
    assert project.gates.quality.by == pytest.approx(0.05)


def test_mappings_merge_lists_replace_and_null_brings_the_default_back():
    project = prod()
    assert (project.target, project.targets) == ("prod", ("dev", "staging", "prod"))
    assert project.engines == Engines("env:DATABASE_URL", None, "s3://bucket/trueline")
    assert (project.data.source, project.data.target) == ("s3://bucket/*.parquet", "air_time")
    assert project.params == {"alpha": 1, "deep": {"a": 1, "c": 3}}
    assert project.contract.personal == ()
    assert (project.gates.quality.by, project.gates.quality.confidence) == (pytest.approx(0.02), 0.9)
    assert project.gates.holdout == timedelta(days=3)
    assert project.gates.approve == Approve(("ann", "bob"), 1)


def test_an_overlay_of_nothing_changes_nothing():
    base, dev = projectfile.parse(FILE), projectfile.parse(FILE, target="dev")
    assert (dev.gates, dev.engines, dev.params, dev.target) == (base.gates, base.engines, base.params, "dev")


@pytest.mark.parametrize("target", [None, "dev", "prod"])
@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (
            "    release: {guards: {eror: 2x}}\n",
            ":26: targets.prod.release.guards.eror: there is no such key; did you mean",
        ),
        ("    relase: {}\n", ":26: targets.prod.relase: there is no such key; did you mean release?"),
        ("    monitor: {loss: 200%}\n", ":26: targets.prod.monitor.loss: expected a share above 0 and up to 100%"),
        ("    monitor: soon\n", ":26: targets.prod.monitor: expected a mapping of keys to values, got 'soon'"),
        ("    project: other\n", ":26: targets.prod.project: a target cannot change this"),
        ("    version: 1\n", ":26: targets.prod.version: a target cannot change this"),
        ("    targets: {}\n", ":26: targets.prod.targets: a target cannot change this"),
        (
            "    kubernetes: {}\n",
            ":26: targets.prod.kubernetes: Kubernetes targets are not supported yet; remove the key",
        ),
        ("    train: null\n", "train is missing"),
        ("  prod: {}\n", ":26: targets.prod: the key is there twice; keep one"),
        ("  a b: {}\n", "expected a target's name of letters"),
        ("  a: 3\n", ":26: targets.a: expected a mapping of what differs there, got '3'"),
    ],
)
def test_what_is_wrong_in_an_overlay_is_told_where_it_stands_whichever_target_is_asked(extra, said, target):
    with pytest.raises(InvalidProject) as caught:
        projectfile.parse(FILE + extra, target=target)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("prd", "trueline.yaml has no target 'prd'; did you mean prod?"),
        ("zzz", "trueline.yaml has no target 'zzz'; there are dev, staging, prod"),
    ],
)
def test_an_unknown_target_is_told_the_nearest(target, said):
    with pytest.raises(InvalidProject) as caught:
        projectfile.parse(FILE, target=target)
    assert str(caught.value) == said


def test_a_target_of_a_file_without_any_is_told_how_to_add_it(tmp_path: Path):
    path = tmp_path / "trueline.yaml"
    path.write_text(FILE.partition("targets:")[0])
    with pytest.raises(
        InvalidProject, match=r"has no targets, so there is no target 'prod'; add targets: \{prod: \{\}\}"
    ):
        projectfile.load(path, "prod")


@pytest.mark.parametrize(
    ("approve", "found"),
    [
        ("{}", Approve()),
        ("{by: [ann]}", Approve(("ann",), 1)),
        ("{by: [a, b, c], count: 2}", Approve(("a", "b", "c"), 2)),
    ],
)
def test_approvals_are_names_and_how_many_of_them(approve, found):
    assert projectfile.parse(FILE.replace("holdout: 3d", f"approve: {approve}")).gates.approve == found


@pytest.mark.parametrize(
    ("approve", "said"),
    [
        ("{by: [ann], count: 2}", "trueline.yaml:9: gates.approve.count: expected at most as many approvals"),
        ("{count: 1}", "gates.approve.count: expected at most as many approvals as there are names in by, which are 0"),
        ("{by: [ann, ann]}", "gates.approve.by: expected each name once"),
        ("{by: [ann], count: -1}", "gates.approve.count: expected a whole number between 0 and 100"),
        ("{by: ann}", "gates.approve.by: expected a list of texts"),
        ("ann", "gates.approve: expected a mapping"),
    ],
)
def test_approvals_that_could_never_be_given_are_refused(approve, said):
    with pytest.raises(InvalidProject) as caught:
        projectfile.parse(FILE.replace("holdout: 3d", f"approve: {approve}"))
    assert said in str(caught.value)


def test_a_bound_of_the_base_and_a_metric_of_the_overlay_are_judged_together():
    with pytest.raises(
        InvalidProject, match=r"trueline\.yaml:14: targets\.prod\.gates\.quality\.metric: expected one of mae"
    ):
        projectfile.parse("""\
version: 1
project: flights
data: {source: a.csv, target: y}
train: model.py:fit
task: regression
gates:
  quality:
    metric: mae
    max: 3
targets:
  prod:
    gates:
      quality:
        metric: roc_auc
""")


@pytest.mark.parametrize("depth", [3, 50])
def test_aliases_of_aliases_and_nesting_without_end_are_refused(depth):
    bomb = "".join(f"  a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 30)}]\n" for n in range(depth))
    with pytest.raises(InvalidProject, match="more than 10000 values"):
        projectfile.parse(f"{FILE}x:\n  a0: &a0 1\n{bomb}")
    with pytest.raises(InvalidProject, match="merge keys are not read"):
        projectfile.parse(f"{FILE}x: &x {{a: 1}}\ny: {{<<: *x}}\n")


names = st.sampled_from("abc")
trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["5%", "off", "x y"])
    | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
mappings = st.dictionaries(names, trees, max_size=3)


def merge_patch(base, patch):
    """RFC 7396, as it stands there."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(base) if isinstance(base, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


@settings(deadline=None)
@given(mappings, mappings)
def test_laying_over_is_json_merge_patch(base, overlay):
    below, above = (compose(yaml.safe_dump(one), "file") for one in (base, overlay))
    assert lay_over(below, above).plain() == merge_patch(base, overlay)
