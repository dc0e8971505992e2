"""The project file: four facts are enough, and whatever is wrong is said with its line, its key and what to do."""

import contextlib
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trueline import projectfile
from trueline.domain.project import Data, Gates, Guards, Monitor, Quality, ReleasePolicy, Retrain, Step
from trueline.errors import InvalidProject

FACTS = """\
version: 1
project: flights
data: {source: january.parquet, target: air_time, time: scheduled, entity: flight_id}
train: model.py:fit
"""


def parse(extra=""):
    return projectfile.parse(FACTS + extra)


def test_four_facts_are_enough():
    project = parse()
    assert project.name == "flights"
    assert project.data == Data("january.parquet", "air_time", "scheduled", "flight_id")
    assert project.train == "model.py:fit"
    assert (project.gates, project.release, project.monitor, project.retrain) == (
        Gates(),
        ReleasePolicy(),
        Monitor(),
        Retrain(),
    )


def test_every_key_of_the_first_version_is_read():
    project = parse("""\
task: regression
contract: {infer: false, unknown_columns: forbid, personal: [tail_number]}
params: {alpha: 0.5, depth: [1, 2]}
gates:
  quality: {metric: mae, max: 12, not_worse_than: champion, by: 0.5%, confidence: 0.9}
  holdout: 3d
release:
  strategy: [shadow: 1h, canary: [10%, 50%], full]
  stick_to: customer
  guards: {errors: 3x, loss: 10%, floor: 2%, alpha: 0.05, beta: 0.02}
monitor:
  labels: {expect_after: 6h, affected_by_prediction: true}
  page_on: performance_loss
  loss: 20%
  false_alarms: 1 per 52w
retrain: {rehearse: daily, window: 8w, only_if: helps, cooldown: 12h}
""")
    assert project.task == "regression"
    assert project.contract.personal == ("tail_number",)
    assert (project.contract.infer, project.contract.unknown_columns) == (False, "forbid")
    assert project.params == {"alpha": 0.5, "depth": [1, 2]}
    assert project.gates == Gates(Quality("mae", None, 12.0, "champion", pytest.approx(0.005), 0.9), timedelta(days=3))
    assert project.release.strategy == (
        Step("shadow", 0.0, timedelta(hours=1)),
        Step("canary", 0.1),
        Step("canary", 0.5),
        Step("full", 1.0),
    )
    assert project.release.stick_to == "customer"
    assert project.release.guards == Guards(3.0, 0.1, 0.02, 0.05, 0.02)
    assert project.monitor.labels.expect_after == timedelta(hours=6)
    assert project.monitor.labels.affected_by_prediction
    assert project.monitor.false_alarms == timedelta(weeks=52)
    assert project.retrain == Retrain(timedelta(days=1), timedelta(weeks=8), "helps", timedelta(hours=12))


def test_the_rehearsal_can_be_switched_off():
    assert parse("retrain: {rehearse: off}\n").retrain.rehearse is None


@pytest.mark.parametrize("without", ["version", "project", "data", "train"])
def test_a_missing_fact_is_named(without):
    text = "".join(line for line in FACTS.splitlines(keepends=True) if not line.startswith(without))
    with pytest.raises(InvalidProject, match=rf"trueline\.yaml:\d+: {without} is missing"):
        projectfile.parse(text)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("monitr: {}\n", "trueline.yaml:5: monitr: there is no such key; did you mean monitor?"),
        ("gates:\n  qualty: {}\n", "trueline.yaml:6: gates.qualty: there is no such key; did you mean quality?"),
        ("zzz: 1\n", "there is no such key; known here: version, project"),
        ("task: clustering\n", "trueline.yaml:5: task: expected one of regression, classification, got 'clustering'"),
        ("gates: {holdout: 7}\n", "gates.holdout: expected a duration, as 30m, 6h, 7d or 4w, got '7'"),
        ("gates: {quality: {by: 5}}\n", "gates.quality.by: expected a share above 0 and up to 100%"),
        ("gates: {quality: {by: nan}}\n", "gates.quality.by: expected a share"),
        ("gates: {quality: {min: nan}}\n", "gates.quality.min: expected a number"),
        ("gates: []\n", "gates: expected a mapping of keys to values, got a list"),
        ("release: {guards: {errors: 1x}}\n", "release.guards.errors: expected a ratio above 1, as 2x, got '1x'"),
        ("release: {strategy: [canary: [50%, 10%], full]}\n", "release.strategy: expected one shadow at most"),
        ("release: {strategy: [canary: [50%]]}\n", "release.strategy: expected stages that end in full"),
        ("release: {strategy: [bluegreen]}\n", "release.strategy[0]: expected a stage"),
        ("release: {strategy: [canary: [0%], full]}\n", "release.strategy[0].canary[0]: expected a share"),
        ("monitor: {false_alarms: never}\n", "monitor.false_alarms: expected a false-alarm budget, as 1 per 365d"),
        ("retrain: {rehearse: sometimes}\n", "retrain.rehearse: expected off, daily, weekly, monthly"),
        ("retrain: {rehearse: 0d}\n", "retrain.rehearse: expected off, daily, weekly, monthly"),
        ("contract: {infer: perhaps}\n", "contract.infer: expected true or false, got 'perhaps'"),
        ("contract: {personal: tail}\n", "contract.personal: expected a list of texts, as [a, b], got 'tail'"),
        ("params: 3\n", "params: expected a mapping of parameter names to values, got '3'"),
        ("params: {1: a}\n", "params: expected parameter names that are texts"),
        ("project: again\n", "trueline.yaml:5: project: the key is there twice; keep one"),
    ],
)
def test_a_wrong_value_is_told_with_line_key_expectation_and_what_was_there(extra, said):
    with pytest.raises(InvalidProject) as caught:
        parse(extra)
    assert said in str(caught.value)


@pytest.mark.parametrize("key", sorted(projectfile.LATER))
def test_a_key_of_a_later_trueline_is_refused_and_never_ignored(key):
    nested = "1"
    for part in reversed(key.split(".")):
        nested = f"{{{part}: {nested}}}"
    with pytest.raises(InvalidProject, match="not supported yet; remove the key"):
        parse(f"{nested[1:-1]}\n")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (FACTS.replace("version: 1", "version: 2"), "expected version 1, the newest this trueline knows, got '2'"),
        (FACTS.replace("model.py:fit", "model.fit"), "train: expected a function, as file.py:function"),
        (FACTS.replace("flights", "a b"), "project: expected a name of letters, digits"),
        ("- a\n", "expected a mapping of keys to values, got a list"),
        ("", "the file is empty"),
        ("a: [1\n", "this is not valid YAML"),
        ("a: *b\n", "this is not valid YAML"),
        ("a: 1\n---\nb: 2\n", "this is not valid YAML"),
        pytest.param("a: \x00\n", "this is not valid YAML"),
        pytest.param('"a\\nb": 1\nversion: 1\n', "there is no such key"),
    ],
)
def test_a_file_that_is_none_is_told_in_one_sentence(wrong, said):
    with pytest.raises(InvalidProject) as caught:
        projectfile.parse(wrong)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_malformed_yaml_is_told_with_its_line():
    with pytest.raises(InvalidProject, match=r"trueline\.yaml:5"):
        parse("gates: {quality: }}\n")


def test_a_missing_file_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(InvalidProject, match="trueline init"):
        projectfile.load(tmp_path / "trueline.yaml")


def test_an_unreadable_file_is_told(tmp_path: Path):
    (tmp_path / "trueline.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InvalidProject, match="cannot be read"):
        projectfile.load(tmp_path / "trueline.yaml")
    with pytest.raises(InvalidProject, match="cannot be read"):
        projectfile.load(tmp_path)


def judged(text):
    """A project or InvalidProject; anything else is the test's failure."""
    with contextlib.suppress(InvalidProject):
        projectfile.parse(text)


@settings(deadline=None)
@given(st.text(max_size=80))
@example("? {a: b}\n: c")
@example("? [a]\n: c")
@example("<<: 3")
@example("&a [*a]")
@example("version: !!binary x")
def test_any_text_is_a_project_or_refused(text):
    judged(text)
    judged(FACTS + text)


top = ["task", "contract", "params", "gates", "release", "monitor", "retrain"]
inner_keys = [
    "infer",
    "personal",
    "quality",
    "metric",
    "min",
    "by",
    "holdout",
    "strategy",
    "guards",
    "errors",
    "labels",
]
keys = st.sampled_from([*top, *inner_keys, "loss", "alpha", "expect_after", "false_alarms", "rehearse", "window"])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
values = st.recursive(
    leaves | st.sampled_from(["5%", "2x", "1 per 365d", "full", "9" * 400 + "d", "1e999", "1 per 0d"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | leaves, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(keys, values, max_size=4))
@example({"params": {"a": "2013-99-99"}})
def test_any_value_under_any_key_is_a_project_or_refused(extra):
    judged(FACTS + yaml.safe_dump(extra))


@settings(deadline=None)
@given(st.text(alphabet="{}[]:,-? &*!<>|'\"%\n\t ab1", max_size=60))
def test_any_yaml_punctuation_is_a_project_or_refused(text):
    judged(FACTS + "params:\n  " + text)
    judged(FACTS + "release: {strategy: " + text + "}\n")
